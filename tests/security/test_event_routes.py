"""Events come in through daprd and nobody else, and daprd takes them from task-api and nobody else (I7)."""

import json
from typing import TYPE_CHECKING, Final

import asyncpg
import httpx2
import pytest
from tests.e2e.coming_back import PATIENCE
from tests.e2e.conftest import Person

from chassis.accounts import ACCOUNTS_ROUTE
from chassis.dead_letters.delivery import DEAD_LETTERS_ROUTE
from chassis.sidecar import APP_TOKEN_HEADER
from chassis.subscriptions import TASKS_ROUTE
from chassis.testing import bulk_envelope, make_task_event
from devstack.layout import HOST
from devstack.polling import within
from devstack.services import SERVICES, Service
from task_events import TaskEvent
from task_events.topics import ACCOUNT_CONFIRMATIONS_TOPIC, ACCOUNTS_TOPIC, PUBSUB_NAME, TASKS_TOPIC

if TYPE_CHECKING:
    from devstack.running_stack import RunningStack

CONSUMERS: Final = {"audit-worker": "audit_entries", "notifier": "notifications"}
OTHER: Final = {"audit-worker": "notifier", "notifier": "audit-worker"}
SIDECAR_TOKEN: Final = "dapr-api-token"


def secret_of(stack: "RunningStack", service: str, name: str) -> str:
    """Read a secret that a running service was given, as nobody but an operator can."""
    return stack.environment(service)[name]


async def taken_in(stack: "RunningStack", service: str, event: TaskEvent) -> bool:
    connection = await asyncpg.connect(stack.databases[service])
    try:
        query = f"SELECT EXISTS (SELECT FROM {CONSUMERS[service]} WHERE event_id = $1)"
        return bool(await connection.fetchval(query, event.id))
    finally:
        await connection.close()


def tokens(stack: "RunningStack", service: str, attacker: Person) -> dict[str, list[tuple[str, str]]]:
    """What somebody may try who does not have the token: each with the headers of the request."""
    good = secret_of(stack, service, "APP_API_TOKEN")
    other = secret_of(stack, service, "DAPR_API_TOKEN")
    bearer = attacker.http.headers["Authorization"]
    return {
        "none": [],
        "an empty one": [(APP_TOKEN_HEADER, "")],
        "a wrong one": [(APP_TOKEN_HEADER, "a" * len(good))],
        "its beginning": [(APP_TOKEN_HEADER, good[:-1])],
        "more than it": [(APP_TOKEN_HEADER, f"{good}x")],
        "other letters": [(APP_TOKEN_HEADER, good.swapcase())],
        "letters beyond ASCII": [(APP_TOKEN_HEADER, "\xe4" * len(good))],
        "the token for the other direction": [(APP_TOKEN_HEADER, other)],
        "that of another service": [(APP_TOKEN_HEADER, secret_of(stack, OTHER[service], "APP_API_TOKEN"))],
        "a person's token": [("Authorization", bearer)],
        "an admin's token": [("Authorization", f"Bearer {stack.token('root', ['admin', 'auditor'])}")],
        "it as a bearer token": [("Authorization", f"Bearer {good}")],
        "a wrong one and then the right one": [(APP_TOKEN_HEADER, "wrong"), (APP_TOKEN_HEADER, good)],
        "two in one": [(APP_TOKEN_HEADER, f"wrong, {good}")],
    }


@pytest.mark.parametrize("service", CONSUMERS)
async def test_with_the_token_it_is_taken_so_the_refusals_below_mean_something(
    stack: "RunningStack", attacker: Person, service: str
) -> None:
    event = make_task_event(task_id=2**61, owner_id=attacker.name)
    headers = {APP_TOKEN_HEADER: secret_of(stack, service, "APP_API_TOKEN")}
    url = f"{stack.urls[service]}{TASKS_ROUTE}"

    async def is_taken() -> bool:  # RETRY, when the database had no time for it: then it is delivered again
        (status,) = (await attacker.http.post(url, json=bulk_envelope([event]), headers=headers)).json()["statuses"]
        return bool(status == {"entryId": "0", "status": "SUCCESS"})

    assert await within(PATIENCE, is_taken, 0.2)
    assert await taken_in(stack, service, event)


@pytest.mark.parametrize("route", [TASKS_ROUTE, DEAD_LETTERS_ROUTE, ACCOUNTS_ROUTE])
@pytest.mark.parametrize("service", CONSUMERS)
async def test_who_is_not_the_sidecar_delivers_nothing(
    stack: "RunningStack", attacker: Person, service: str, route: str
) -> None:
    url = f"{stack.urls[service]}{route}"
    async with httpx2.AsyncClient(timeout=PATIENCE) as http:
        for attempt, headers in tokens(stack, service, attacker).items():
            event = make_task_event(owner_id=attacker.name)
            body = json.dumps(bulk_envelope([event])).encode()
            sent = [("Content-Type", "application/json"), *headers]
            raw = [(name.encode(), value.encode("latin-1")) for name, value in sent]
            response = await http.post(url, content=body, headers=raw)
            assert (response.status_code, response.json()["code"]) == (403, "forbidden"), attempt
            assert not await taken_in(stack, service, event), attempt


async def test_nobody_confirms_an_erasure_to_task_api_but_its_sidecar(stack: "RunningStack", attacker: Person) -> None:
    wrong = (None, "", "a" * 43, *(secret_of(stack, one, "APP_API_TOKEN") for one in CONSUMERS))
    for token in wrong:
        headers = {} if token is None else {APP_TOKEN_HEADER: token}
        response = await attacker.http.post(f"{stack.urls['task-api']}{ACCOUNTS_ROUTE}", content=b"{}", headers=headers)
        assert (response.status_code, response.json()["code"]) == (403, "forbidden")


async def test_in_its_address_the_token_is_none(stack: "RunningStack", attacker: Person) -> None:
    good = secret_of(stack, "notifier", "APP_API_TOKEN")
    for query in (f"{APP_TOKEN_HEADER}={good}", f"token={good}"):
        response = await attacker.http.post(f"{stack.urls['notifier']}{TASKS_ROUTE}?{query}", content=b"{}")
        assert response.status_code == 403


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("service", CONSUMERS)
async def test_another_method_is_no_way_around_it(attacker: Person, service: str, method: str) -> None:
    response = await attacker.http.request(method, f"{attacker.urls[service]}{TASKS_ROUTE}")
    assert response.status_code == 405


SPELLINGS: Final = [
    "//events/tasks/bulk",
    "/events//tasks/bulk",
    "/events/tasks/bulk/",
    "/EVENTS/tasks/bulk",
    "/events/./tasks/bulk",
    "/api/v1/../../events/tasks/bulk",
    "/events/tasks/bulk;x=1",
]


@pytest.mark.parametrize("variant", SPELLINGS)
async def test_no_other_spelling_of_the_path_is_open(stack: "RunningStack", attacker: Person, variant: str) -> None:
    event = make_task_event(owner_id=attacker.name)
    url = httpx2.URL(stack.urls["notifier"]).copy_with(raw_path=variant.encode())
    response = await attacker.http.post(url, json=bulk_envelope([event]))
    assert response.status_code in {307, 403, 404, 405}
    assert not await taken_in(stack, "notifier", event)


PUBLISHERS: Final = [service for service in SERVICES if service.replica == 1]


def _publish_url(stack: "RunningStack", index: int, topic: str = TASKS_TOPIC) -> str:
    return f"http://{HOST}:{stack.ports.dapr_http(index)}/v1.0/publish/{PUBSUB_NAME}/{topic}"


@pytest.mark.parametrize("service", PUBLISHERS, ids=lambda service: service.app_id)
@pytest.mark.parametrize("attempt", ["no token", "a wrong one", "that of the app"])
async def test_a_sidecar_publishes_for_nobody_without_its_token(
    stack: "RunningStack", attacker: Person, service: Service, attempt: str
) -> None:
    event = make_task_event(owner_id=attacker.name)
    given = {"no token": {}, "a wrong one": {SIDECAR_TOKEN: "a" * 43}}
    given["that of the app"] = {SIDECAR_TOKEN: secret_of(stack, service.app_id, "APP_API_TOKEN")}
    async with httpx2.AsyncClient(timeout=PATIENCE) as http:
        response = await http.post(
            _publish_url(stack, service.index), content=event.model_dump_json(), headers=given[attempt]
        )
        metadata = await http.get(
            f"http://{HOST}:{stack.ports.dapr_http(service.index)}/v1.0/metadata", headers=given[attempt]
        )
    assert response.status_code == 401, response.text
    assert metadata.status_code == 401, metadata.text


@pytest.mark.parametrize(
    ("service", "topic"),
    [
        ("notifier", TASKS_TOPIC),
        ("audit-worker", TASKS_TOPIC),
        ("notifier", "audit-worker.dead-letters"),
        ("audit-worker", "notifier.dead-letters"),
        ("task-api", "audit-worker.dead-letters"),
        ("notifier", ACCOUNTS_TOPIC),
        ("audit-worker", ACCOUNTS_TOPIC),
        ("task-api", ACCOUNT_CONFIRMATIONS_TOPIC),
    ],
)
async def test_a_service_that_was_taken_over_cannot_make_the_events_of_another(
    stack: "RunningStack", attacker: Person, service: str, topic: str
) -> None:
    """With the token of its own sidecar: the scopes of the component hold."""
    index = next(one.index for one in SERVICES if one.app_id == service)
    event = make_task_event(owner_id=attacker.name)
    headers = {
        SIDECAR_TOKEN: secret_of(stack, service, "DAPR_API_TOKEN"),
        "Content-Type": "application/cloudevents+json",
    }
    async with httpx2.AsyncClient(timeout=PATIENCE) as http:
        response = await http.post(_publish_url(stack, index, topic), content=event.model_dump_json(), headers=headers)
    assert response.status_code == 403, response.text
    for consumer in CONSUMERS:
        assert not await taken_in(stack, consumer, event)
