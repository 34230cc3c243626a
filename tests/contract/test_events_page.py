"""docs/events.md says what is so."""

import json
import re
from pathlib import Path
from typing import Final

from jsonschema import Draft202012Validator, FormatChecker

from contracts.violations import Rule
from task_events import TaskEventType, parse_task_event
from task_events.json_schema import envelope_schema
from task_events.topics import TASKS_PARTITIONS, TASKS_TOPIC

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")


def test_the_example_is_a_valid_event_with_every_attribute() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    schema = envelope_schema()
    Draft202012Validator(schema, format_checker=FormatChecker(["date-time"])).validate(json.loads(block))
    assert parse_task_event(block).data.task.title == "Buy milk"
    assert isinstance(schema["properties"], dict)
    assert set(json.loads(block)) == set(schema["properties"])


def test_every_attribute_type_and_rule_is_explained() -> None:
    fields = envelope_schema()["properties"]
    assert isinstance(fields, dict)
    own = {*fields} - {"specversion", "datacontenttype", "data"}  # those are CloudEvents' own and always the same
    missing = [word for word in (*own, *TaskEventType, *Rule) if f"`{word}`" not in PAGE]
    assert not missing


def test_topic_and_partitions_are_those_of_the_broker() -> None:
    assert f"`{TASKS_TOPIC}`, {TASKS_PARTITIONS} partitions" in PAGE
