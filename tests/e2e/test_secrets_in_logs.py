"""Secrets that callers send are in no log, no span and no error of any part; so are those the stack is locked with.

That is checked once more when each stack of the tests ends (`devstack.leaks`): of all that ran on it.
"""

import asyncio
import json
import re
import secrets
from typing import TYPE_CHECKING

import pytest
from tests.e2e.coming_back import PATIENCE, patient_client

from chassis.sidecar import APP_TOKEN_HEADER
from chassis.subscriptions import TASKS_ROUTE
from devstack.leaks import find
from devstack.polling import within
from devstack.services import SERVICES
from task_events.topics import TASKS_TOPIC

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer
    from conftest import Collector
    from tests.e2e.conftest import Person

    from devstack.running_stack import RunningStack

pytestmark = pytest.mark.e2e


def planted(stack: "RunningStack", what: str, prefix: str = "") -> str:
    secret = prefix + secrets.token_urlsafe(32)
    stack.must_not_log(secret, what)
    return secret


async def test_what_callers_send_is_neither_logged_nor_repeated(
    stack: "RunningStack", alice: "Person", collector: "Collector"
) -> None:
    before = len(collector.received)
    secret = {
        what: planted(stack, what)
        for what in ("authorization", "basic", "dapr token", "key", "query", "cookie", "body", "webhook", "id")
    }
    secret["path"] = planted(stack, "path", "twkey_")
    feed = planted(stack, "an unknown calendar feed", "twcal_")
    forged = stack.token("mallory").rsplit(".", maxsplit=1)[0] + "." + planted(stack, "a forged signature")
    said: list[str] = []
    async with patient_client() as http:
        for url in stack.urls.values():
            tasks, name = f"{url}/api/v1/tasks", {"Authorization": f"Bearer {stack.token(alice.name)}"}
            requests = [
                http.get(tasks, headers={"Authorization": f"Bearer {secret['authorization']}"}),
                http.get(tasks, headers={"Authorization": f"Basic {secret['basic']}"}),
                http.get(tasks, headers={"Authorization": f"Bearer {forged}"}),
                http.get(tasks, headers={"X-API-Key": secret["key"], "Cookie": f"session={secret['cookie']}"}),
                http.get(f"{tasks}?access_token={secret['query']}&limit=x", headers=name),
                http.post(tasks, json={"title": 7, "password": secret["body"]}, headers=name),
                http.post(tasks, content=f'{{"token": "{secret["body"]}', headers=name),
                http.get(f"{url}/api/v1/calendars/{feed}.ics"),
                http.get(f"{tasks}/{secret['path']}", headers=name),
                http.get(f"{url}/{secret['path']}"),
                http.post(f"{url}{TASKS_ROUTE}", json={}, headers={APP_TOKEN_HEADER: secret["dapr token"]}),
                http.get(tasks, headers=name | {"X-Request-ID": f"({secret['id']})"}),
            ]
            answers = await asyncio.gather(*requests)
            assert all(answer.status_code < 500 for answer in answers)
            said += [f"{answer.text} {answer.headers}" for answer in answers if answer.status_code >= 400]
    # What a person writes is theirs, be it a credential: it is stored and shown to them, and nowhere else.
    task = await alice.create_task(f"https://hooks.example/services/{secret['webhook']}", description=forged)
    await alice.sees_versions_audited(task, 1)
    await alice.is_notified(1)

    async def traced() -> bool:
        received = list(collector.received)
        told = (b"/api/v1/tasks", b"INSERT INTO ")
        return len(received) > before and all(any(text in one for one in received) for text in told)

    assert await within(PATIENCE, traced, 0.1)
    assert len(said) > 20
    assert [one for one in said for value in secret.values() if value in one] == []
    assert stack.leaks() == []
    assert find("spans", b"\n".join(list(collector.received)), stack.secrets()) == []


async def test_the_secret_address_of_a_feed_is_told_to_its_owner_alone(stack: "RunningStack", alice: "Person") -> None:
    made = await alice.ask("POST", "/calendar-feeds", {})
    assert made.status_code == 201, made.text
    token = max(re.findall(r"twcal_[A-Za-z0-9_-]+", made.text), key=len)  # and a hint, which is its beginning
    stack.must_not_log(token, "the calendar feed of alice")
    async with patient_client() as http:
        url = f"{stack.urls['task-api']}/api/v1/calendars/{token}.ics"
        assert (await http.get(url)).status_code == 200
        assert (await http.post(url)).status_code == 405
    assert stack.leaks() == []


async def test_what_cannot_be_processed_is_kept_for_people_and_not_logged(
    stack: "RunningStack", past_taskwire: "AIOKafkaProducer[bytes, bytes]"
) -> None:
    poison = planted(stack, "what is in an event that makes no sense")
    await past_taskwire.send_and_wait(TASKS_TOPIC, json.dumps({"token": poison}).encode(), key=b"1")
    admin = {"Authorization": f"Bearer {stack.token('olga', ['admin'])}"}
    async with patient_client(admin) as http:
        for consumer in ("audit-worker", "notifier"):
            letters = f"{stack.urls[consumer]}/api/v1/dead-letters"

            async def buried(letters: str = letters) -> bool:
                found = (await http.get(letters)).json()["items"]
                texts = [(await http.get(f"{letters}/{one['id']}")).text for one in found]
                return any(poison in text for text in texts)

            assert await within(PATIENCE, buried, 0.2)
    assert stack.leaks() == []


def test_the_stack_knows_what_it_is_locked_with(stack: "RunningStack") -> None:
    known = set(stack.secrets().values())
    assert known >= {"TASKWIRE_AUTH_HS256_SECRET", "DAPR_API_TOKEN", "APP_API_TOKEN", "the password of postgres"}
    assert known >= {f"the password of {service.module}" for service in SERVICES}
    for service in SERVICES:
        told = stack.environment(service.name)
        assert {told["DAPR_API_TOKEN"], told["APP_API_TOKEN"]} <= stack.secrets().keys()
