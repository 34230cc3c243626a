"""The contract of task events: one topic and the schema of what is in it."""

from collections.abc import Iterator
from typing import Final

from contracts.alternatives import Schema
from contracts.compatibility import breaking_changes
from contracts.kinds import Kind, as_text
from contracts.releases import Contract
from contracts.violations import BOTH, Rule, Violation
from task_events.asyncapi import asyncapi_document
from task_events.json_schema import account_schema, data_schema, envelope_schema
from task_events.models import CONTRACT_VERSION
from task_events.topics import TASKS_PARTITIONS, TASKS_TOPIC


def current_contract() -> Contract:
    """Give the contract as the code has it now.

    More partitions move keys to other partitions, so the order per task would not hold across the change: their
    number is part of what is promised.
    """
    topic: Schema = {"name": TASKS_TOPIC, "partitions": TASKS_PARTITIONS, "key": "task id"}
    return Contract(CONTRACT_VERSION, {"topic": topic, "schema": envelope_schema()})


def generated_files() -> dict[str, str]:
    """Give every file that follows from the code, by its path in `specs/`."""
    return {
        "events/asyncapi.json": as_text(asyncapi_document()),
        "events/account-event.schema.json": as_text(account_schema()),
        "events/task-event.schema.json": as_text(envelope_schema()),
        "events/task-event-data.schema.json": as_text(data_schema()),
    }


def violations(current: Contract, released: Contract) -> list[Violation]:
    """Say what in a contract breaks a released one of the same major."""
    before, after = released.parts["topic"], current.parts["topic"]
    found = [
        Violation(f"topic.{name}", Rule.TOPIC_CHANGED, f"was {value}, is {after.get(name)}", BOTH)
        for name, value in before.items()
        if value != after.get(name)
    ]
    return found + breaking_changes(released.parts["schema"], current.parts["schema"])


def _breaks(current: Contract, released: Contract) -> Iterator[str]:
    return map(str, violations(current, released))


EVENTS: Final = Kind(
    name="events",
    current=current_contract,
    files=generated_files,
    released="events/released",
    breaks=_breaks,
    broken=(
        "consumers of released contract {major}.x break. Make the change additive (a new optional field beside the old "
        "one), or start contract {next}.0: docs/events.md, Compatibility"
    ),
    version_is_in="CONTRACT_VERSION (task_events/models.py)",
)
