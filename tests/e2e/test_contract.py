"""What a real run leaves in Kafka is what the committed contract says."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from jsonschema import Draft202012Validator, FormatChecker

if TYPE_CHECKING:
    from tests.e2e.conftest import Person, Records

pytestmark = pytest.mark.e2e

SPECS: Final = Path(__file__).parents[2] / "specs" / "events"
VALID: Final = FormatChecker(["date-time"])


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((SPECS / name).read_bytes()), format_checker=VALID)


@pytest.fixture
async def life(alice: "Person", records_of: "Callable[[int, int], Awaitable[Records]]") -> "Records":
    """What Kafka has of a task that went through all that can happen to one."""
    task = await alice.create_task("Buy milk", priority="high", due_at="2027-01-31T09:00:00Z")
    await alice.change(
        task, title="Kauf \u00bbMilch\u00ab \U0001f95b", description="Two litres", priority="low", due_at=None
    )
    for step in ("complete", "reopen"):
        assert (await alice.ask("POST", f"/tasks/{task['id']}/{step}")).status_code == 200
    assert (await alice.ask("DELETE", f"/tasks/{task['id']}")).status_code == 204
    return await records_of(task["id"], 5)


async def test_every_event_of_a_task_is_valid(life: "Records") -> None:
    envelopes: list[dict[str, Any]] = [json.loads(record.value or b"") for record in life]
    for envelope in envelopes:
        validator("task-event.schema.json").validate(envelope)
        validator("task-event-data.schema.json").validate(envelope["data"])
    assert [envelope["type"] for envelope in envelopes] == [
        "task.created",
        "task.updated",
        "task.completed",
        "task.reopened",
        "task.deleted",
    ]


async def test_nothing_is_in_an_envelope_that_the_contract_does_not_name(
    life: "Records",
) -> None:
    schema = json.loads((SPECS / "task-event.schema.json").read_bytes())
    for record in life:
        envelope = json.loads(record.value or b"")
        assert set(envelope) == set(schema["properties"])
        # What an engagement adds is left out of the events of personal tasks.
        assert set(envelope["data"]) == set(schema["$defs"]["TaskEventData"]["properties"]) - {"recipients"}
        assert set(envelope["data"]["task"]) == set(schema["$defs"]["TaskSnapshot"]["properties"]) - {"engagement_id"}


async def test_key_partition_order_and_headers_are_as_documented(
    life: "Records",
) -> None:
    envelopes = [json.loads(record.value or b"") for record in life]
    assert {record.key for record in life} == {envelope["subject"].encode() for envelope in envelopes}
    assert {envelope["partitionkey"] for envelope in envelopes} == {envelopes[0]["subject"]}
    assert len({record.partition for record in life}) == 1
    assert [envelope["data"]["task"]["version"] for envelope in envelopes] == [1, 2, 3, 4, 5]
    assert len({envelope["id"] for envelope in envelopes}) == 5
    assert {envelope["traceid"] == envelope["traceparent"] for envelope in envelopes} == {True}
    assert [dict(record.headers) for record in life] == [{"partitionKey": record.key} for record in life]
