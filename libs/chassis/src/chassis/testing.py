"""What the tests of every service need: settings, tokens, events, and a client of a running application.

Nothing here is imported by a service. Databases come from `devstack.testing`.
"""

import asyncio
import atexit
import base64
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypedDict, TypeVar, Unpack

import httpx2
import uvicorn
from fastapi import FastAPI
from jose import jwt
from prometheus_client.parser import text_string_to_metric_families
from pydantic import JsonValue
from starlette.types import ASGIApp

from chassis.correlation import new_id
from chassis.dead_letters.delivery import DEAD_LETTERS_ROUTE
from chassis.settings import ServiceSettings
from chassis.sidecar import APP_TOKEN_HEADER
from chassis.subscriptions import TASKS_ROUTE
from task_events import (
    CONTENT_TYPE,
    Actor,
    FieldChange,
    TaskEvent,
    TaskEventData,
    TaskEventType,
    TaskSnapshot,
)
from task_events.models import Priority
from task_events.topics import PUBSUB_NAME, TASKS_TOPIC

if TYPE_CHECKING:
    import pytest

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)

ISSUER: Final = "taskwire-test"
AUDIENCE: Final = "taskwire"
HS256_SECRET: Final = secrets.token_urlsafe(48)
APP_TOKEN: Final = secrets.token_urlsafe(24)
MORNING: Final = datetime(2026, 3, 1, 8, 30, 0, 123456, tzinfo=UTC)
"""When tasks are created in tests, unless they say otherwise."""
PATIENCE: Final = 90.0
"""Seconds for what is awaited: no machine is too slow for it. A time-out that a test waits for may be short."""
_WAITS: Final = ("pool", "connect", "statement", "lock")
_LONG_WAITS: Final = ("idle", "transaction")
_LONGEST: Final = 600.0
_UNHURRIED: Final = (
    "chassis.consumer.DELIVERY_TIMEOUT",
    "chassis.consumer._WHOLE_BATCH_TIMEOUT",
    "chassis.consumer._PART_TIMEOUT",
    "chassis.consumer._KEEP_TIMEOUT",
    "chassis.dead_letters.delivery._STORE_TIMEOUT",
    "chassis.accounts.HANDLING_TIMEOUT",
    "chassis.erasure._ERASE_TIMEOUT",
    "chassis.health.CHECK_TIMEOUT",
    "chassis.http_protocol._LINGER",
    "chassis.limits._LINGER_SECONDS",
)
"""Times that a service has for its work, of which no setting is made."""
_DELIVERIES: Final = 30
_BETWEEN_DELIVERIES: Final = 0.2
_nobody = socket.socket()  # bound, so that nobody else gets the port, and not listening
_nobody.bind(("127.0.0.1", 0))
atexit.register(_nobody.close)
NOBODYS_PORT: Final[int] = _nobody.getsockname()[1]
"""Connections to this port of this host are refused as long as the process lasts, whatever else runs here."""
REFUSED_URL: Final = f"postgresql://nobody:nothing@127.0.0.1:{NOBODYS_PORT}/nowhere"


_PATIENT: Final[dict[str, object]] = {
    **{f"database_{wait}_timeout": PATIENCE for wait in _WAITS},
    **{f"database_{wait}_timeout": _LONGEST for wait in _LONG_WAITS},
    "head_timeout": PATIENCE,
    "body_timeout": PATIENCE,
    "import_stall_timeout": PATIENCE,
}
_NO_SIDECAR: Final[dict[str, object]] = {"DAPR_HTTP_PORT": NOBODYS_PORT, "DAPR_GRPC_PORT": NOBODYS_PORT}
PATIENT_ENVIRONMENT: Final = {
    **{f"TASKWIRE_{name.upper()}": str(value) for name, value in _PATIENT.items()},
    **{name: str(value) for name, value in _NO_SIDECAR.items()},
}
"""The same for a service that runs as a process of its own, without a sidecar."""


def take_all_the_time_there_is(monkeypatch: "pytest.MonkeyPatch") -> None:
    """Have no delivery, erasure or check of this process end because the machine is slow.

    Tests of what ends when the time is over set the one they are about anew.
    """
    for name in _UNHURRIED:
        monkeypatch.setattr(name, PATIENCE)


def settings_for(settings_class: type[SettingsT], database_url: str = REFUSED_URL, **more: object) -> SettingsT:
    """Make the settings of a service under test.

    Args:
        settings_class: The service's own.
        database_url: The test's database; without one, a port where nothing listens. Where the tests are run through
            a pooler (`make test-pooler`), the service gets there through it.
        more: Settings of the service itself, or others to override.
    """
    server, _, pooler = os.environ.get("TASKWIRE_TEST_POOLED_PORTS", "").partition(":")
    pooled = bool(server) and f":{server}/" in database_url
    given: dict[str, object] = {
        "environment": "development",
        "port": 8000,
        "database_url": database_url.replace(f":{server}/", f":{pooler}/") if pooled else database_url,
        "database_pooler": "transaction" if pooled else "none",
        "auth_issuer": ISSUER,
        "auth_audience": AUDIENCE,
        "auth_hs256_secret": HS256_SECRET,
        "auth_jwks_url": None,
        "DAPR_API_TOKEN": secrets.token_urlsafe(24),
        "APP_API_TOKEN": APP_TOKEN,
        **_NO_SIDECAR,
        # A slow machine is no outage; tests of outages say their own numbers.
        **_PATIENT,
        # A test asks as often as it likes; those of the limits say their own numbers.
        "rate_limit_per_user": 1_000_000,
        "rate_limit_per_address": 1_000_000,
        "rate_limit_failed_authentications": 1_000_000,
    }
    return settings_class.model_validate(given | more)


def make_token(user: str, *roles: str, **claims: object) -> str:
    """Make a bearer JWT as the identity provider would; `claims` override, None leaves a claim out."""
    now = datetime.now(UTC)
    everything: dict[str, object] = {
        "sub": user,
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + timedelta(hours=1),
        "roles": list(roles),
    }
    given = {name: value for name, value in (everything | claims).items() if value is not None}
    token: str = jwt.encode(given, HS256_SECRET, algorithm="HS256")
    return token


def bearer(user: str, *roles: str) -> dict[str, str]:
    """Make the request headers of a caller."""
    return {"Authorization": f"Bearer {make_token(user, *roles)}"}


class TaskFields(TypedDict, total=False):
    """What a test may say about the task in an event."""

    owner_id: str
    title: str
    description: str | None
    priority: Priority
    due_at: datetime | None
    engagement_id: int | None


_TASK: Final[TaskFields] = {
    "owner_id": "alice",
    "title": "Buy milk",
    "description": None,
    "priority": "medium",
    "due_at": None,
}


def make_task_event(
    task_id: int = 1,
    version: int = 1,
    kind: TaskEventType | None = None,
    *,
    actor_id: str | None = None,
    changes: Mapping[str, tuple[JsonValue, JsonValue]] | None = None,
    occurred_at: datetime | None = None,
    corr_id: str | None = None,
    recipients: tuple[str, ...] | None = None,
    **fields: Unpack[TaskFields],
) -> TaskEvent:
    """Make an event as task-api would publish it, with an id of its own.

    Args:
        task_id: The task; also the event's subject.
        version: Of the task after the change.
        kind: Type of the event; by default `created` for version 1 and `updated` for others.
        actor_id: Who made the change, by default the owner.
        changes: Field → (old, new); by default a change of the title.
        occurred_at: By default a minute per version after `MORNING`.
        corr_id: By default made anew.
        recipients: Who was a member of the engagement; None for a personal task.
        fields: The task after the change; by default alice's “Buy milk”.
    """
    at = occurred_at or MORNING + timedelta(minutes=version)
    kind = kind or (TaskEventType.CREATED if version == 1 else TaskEventType.UPDATED)
    task: TaskFields = _TASK | fields
    changed = {"title": (None if version == 1 else "Buy bread", task["title"])} if changes is None else changes
    data = TaskEventData(
        task=_snapshot(task_id, version, kind, at, task),
        changes={name: FieldChange(old=old, new=new) for name, (old, new) in changed.items()},
        actor=Actor(id=actor_id or task["owner_id"]),
        occurred_at=at,
        corr_id=corr_id or new_id(),
        recipients=recipients,
    )
    return TaskEvent(id=new_id(), type=kind, subject=str(task_id), time=at, data=data)


def _snapshot(task_id: int, version: int, kind: TaskEventType, at: datetime, task: TaskFields) -> TaskSnapshot:
    completed = kind is TaskEventType.COMPLETED
    return TaskSnapshot(
        id=task_id,
        **task,
        completed=completed,
        completed_at=at if completed else None,
        version=version,
        created_at=MORNING,
        updated_at=at,
        deleted_at=at if kind is TaskEventType.DELETED else None,
    )


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """Run an application's lifespan and give a client that talks to it in process."""
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://service.test") as client:
            yield client


async def scrape(client: httpx2.AsyncClient, metric: str, **labels: str) -> float:
    """Read a service's metrics page as Prometheus does and add up the samples that have these labels."""
    page = await client.get("/metrics")
    return sum(
        sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
        if sample.name == metric and labels.items() <= sample.labels.items()
    )


async def post_events(client: httpx2.AsyncClient, content: bytes, *, token: str | None = APP_TOKEN) -> httpx2.Response:
    """Post what should be a bulk delivery as the sidecar does, with its token or with another or none."""
    headers = {"Content-Type": "application/json"} | ({APP_TOKEN_HEADER: token} if token is not None else {})
    raw_headers = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return await client.post(TASKS_ROUTE, content=content, headers=raw_headers)


def _value(body: TaskEvent | bytes) -> bytes:
    return body.to_json() if isinstance(body, TaskEvent) else body


def bulk_envelope(bodies: Sequence[TaskEvent | bytes], entry_ids: Sequence[str] | None = None) -> dict[str, JsonValue]:
    """Make the envelope in which daprd 1.18.1 delivers records in bulk; by default entry ids count from 0.

    Each record's offset is its entry id here, so what is delivered again under its id is the same record.
    """
    ids = [str(number) for number in range(len(bodies))] if entry_ids is None else entry_ids
    entries: list[JsonValue] = [
        {
            "entryId": entry_id,
            "event": base64.b64encode(_value(body)).decode(),
            "metadata": {"partitionKey": "1", "__key": "1", **_origin(entry_id)},
            "contentType": "application/octet-stream",
        }
        for entry_id, body in zip(ids, bodies, strict=True)
    ]
    return {
        "id": new_id(),
        "type": "com.dapr.event.sent.bulk",
        "topic": TASKS_TOPIC,
        "pubsubname": PUBSUB_NAME,
        "metadata": {},
        "entries": entries,
    }


def _origin(offset: str) -> dict[str, str]:
    return {"__topic": TASKS_TOPIC, "__partition": "0", "__offset": offset}


async def deliver_bulk(
    client: httpx2.AsyncClient, *bodies: TaskEvent | bytes, entry_ids: Sequence[str] | None = None
) -> list[str]:
    """Deliver events together as the sidecar does and give what the consumer answered to each."""
    response = await post_events(client, json.dumps(bulk_envelope(bodies, entry_ids)).encode())
    assert response.status_code == 200, response.text
    statuses = response.json()["statuses"]
    wanted = [str(number) for number in range(len(bodies))] if entry_ids is None else entry_ids
    assert [status["entryId"] for status in statuses] == list(wanted)
    return [status["status"] for status in statuses]


async def deliver(client: httpx2.AsyncClient, *bodies: TaskEvent | bytes) -> list[str]:
    """Deliver events one after the other, each a batch of its own, and give what the consumer answered to each."""
    return [answer for body in bodies for answer in await deliver_bulk(client, body)]


async def deliver_until_taken(client: httpx2.AsyncClient, *bodies: TaskEvent | bytes) -> None:
    """Deliver events together, and again what was answered RETRY, as the sidecar does: a slow machine may say so."""
    waiting = list(bodies)
    for _ in range(_DELIVERIES):
        answers = await deliver_bulk(client, *waiting)
        waiting = [body for body, answer in zip(waiting, answers, strict=True) if answer == "RETRY"]
        if not waiting:
            return
        await asyncio.sleep(_BETWEEN_DELIVERIES)
    raise AssertionError(f"{len(waiting)} events were never taken")


async def post_dead_letter(
    client: httpx2.AsyncClient,
    body: TaskEvent | bytes,
    *,
    offset: int = 0,
    token: str = APP_TOKEN,
    **headers: str,
) -> httpx2.Response:
    """Deliver a dead letter as daprd 1.18.1 does: the bytes in Base64, the record it was in the headers."""
    original = _value(body)
    wrapper = {"id": new_id(), "specversion": "1.0", "type": "com.dapr.event.sent", "source": "Dapr"}
    wrapper |= {"datacontenttype": "application/octet-stream", "data_base64": base64.b64encode(original).decode()}
    origin = _origin(str(offset)) | headers
    return await client.post(
        DEAD_LETTERS_ROUTE,
        content=json.dumps(wrapper).encode(),
        headers={"Content-Type": CONTENT_TYPE, APP_TOKEN_HEADER: token} | origin,
    )


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an application over real sockets on a free port of this host and give its URL."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    sock = config.bind_socket()
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        while not server.started:  # noqa: ASYNC110 (uvicorn has no event to wait for)
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        sock.close()
