"""Who asks too often is told to wait: by principal, by address, by route, and harder where credentials are guessed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from prometheus_client import REGISTRY

from chassis.errors import NotFoundError
from chassis.identity import CurrentUser
from chassis.rate_limits.budgets import CREDENTIAL, SECRET_ADDRESS, RouteBudgets
from chassis.rate_limits.counters import LocalCounters
from chassis.rate_limits.memory import BoundedMemoryStorage
from chassis.service import create_service
from chassis.settings import ServiceSettings
from chassis.testing import REFUSED_URL, bearer, serving, settings_for

ALICE: Final = bearer("alice")
BOB: Final = bearer("bob")
ROUTES: Final[RouteBudgets] = {("POST", "/keys/{name}"): CREDENTIAL, ("GET", "/open/{secret}.ics"): SECRET_ADDRESS}
router = APIRouter()


@router.get("/me")
async def me(user: CurrentUser) -> str:
    return user.id


@router.post("/keys/{name}")
async def make_key(name: str, user: CurrentUser) -> str:
    return f"{user.id}/{name}"


@router.get("/open/{secret}.ics")
async def opened(secret: str) -> str:
    if secret != "right":
        raise NotFoundError("no")
    return secret


class Time:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 60_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def limited(time: Time | None = None, **settings: object) -> AsyncIterator[httpx2.AsyncClient]:
    made = settings_for(ServiceSettings, REFUSED_URL, trusted_proxies="127.0.0.1", **settings)
    app: FastAPI = create_service(made, package="chassis", title="t", description="d", routers=[router])
    counters = LocalCounters(BoundedMemoryStorage(clock=time or Time()))
    app.state.rate_limits.counters = app.state.rate_limits.addresses = counters
    app.state.rate_limits.give(ROUTES)
    async with serving(app) as client:
        yield client


def from_(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


def refusals(budget: str) -> float:
    return REGISTRY.get_sample_value("taskwire_rate_limited_total", {"budget": budget}) or 0.0


def assert_refused(response: httpx2.Response, budget: str, *, after: int) -> None:
    assert response.status_code == 429, response.text
    problem = response.json()
    assert (problem["code"], problem["status"]) == ("rate_limited", 429)
    assert response.headers["content-type"] == "application/problem+json"
    assert f"“{budget}”" in problem["detail"]
    assert response.headers["retry-after"] == str(after)
    assert f'"{budget}";r=0;t={after}' in response.headers["ratelimit"]
    assert f"{after} s" in problem["detail"]


async def test_each_principal_has_a_budget_and_is_told_how_it_stands() -> None:
    async with limited(rate_limit_per_user=3) as client:
        for left in (2, 1, 0):
            response = await client.get("/api/v1/me", headers=ALICE)
            assert response.status_code == 200
            assert response.headers["ratelimit-policy"] == '"user";q=3;w=60'
            # There is more once the first request has left the window; at the very moment it is still counted.
            assert response.headers["ratelimit"] == f'"user";r={left};t=61'
        before = refusals("user")
        assert_refused(await client.get("/api/v1/me", headers=ALICE), "user", after=61)
        assert refusals("user") == before + 1
        assert (await client.get("/api/v1/me", headers=BOB)).status_code == 200


async def test_after_the_time_it_says_a_request_is_let_through_and_not_a_second_earlier() -> None:
    time = Time()
    async with limited(time, rate_limit_per_user=10) as client:
        for _ in range(10):
            assert (await client.get("/api/v1/me", headers=ALICE)).status_code == 200
            time.now += 1.7
        for _ in range(5):
            response = await client.get("/api/v1/me", headers=ALICE)
            after = int(response.headers["retry-after"])
            assert_refused(response, "user", after=after)
            time.now += after - 1.001
            assert (await client.get("/api/v1/me", headers=ALICE)).status_code == 429
            time.now += 1.001
            assert (await client.get("/api/v1/me", headers=ALICE)).status_code == 200


async def test_a_budget_follows_its_principal_from_address_to_address_and_through_each_token() -> None:
    async with limited(rate_limit_per_user=2) as client:
        for number in (1, 2):
            headers = bearer("alice", f"role{number}") | from_(f"198.51.100.{number}")
            assert (await client.get("/api/v1/me", headers=headers)).status_code == 200
        assert_refused(await client.get("/api/v1/me", headers=ALICE | from_("198.51.100.3")), "user", after=61)


async def test_each_address_has_a_budget_before_anybody_looks_at_a_credential() -> None:
    async with limited(rate_limit_per_address=2) as client:
        for headers in (ALICE, BOB):
            assert (await client.get("/api/v1/me", headers=headers | from_("198.51.100.1"))).status_code == 200
        assert_refused(await client.get("/api/v1/me", headers=ALICE | from_("198.51.100.1")), "address", after=61)
        assert_refused(await client.get("/nothing", headers=from_("198.51.100.1")), "address", after=61)
        assert (await client.get("/api/v1/me", headers=ALICE | from_("198.51.100.2"))).status_code == 200


async def test_a_made_up_address_is_no_way_around_it() -> None:
    async with limited(rate_limit_per_address=2) as client:
        answers = [await client.get("/", headers=from_(f"6.6.6.{n}, 198.51.100.1")) for n in range(3)]
        assert [answer.status_code for answer in answers] == [404, 404, 429]


async def test_the_addresses_of_one_ipv6_subscriber_are_one() -> None:
    async with limited(rate_limit_per_address=2) as client:
        answers = [await client.get("/", headers=from_(f"2001:db8:1:2::{n}")) for n in (1, 2, 3)]
        assert [answer.status_code for answer in answers] == [404, 404, 429]
        assert (await client.get("/", headers=from_("2001:db8:1:3::1"))).status_code == 404


async def test_who_has_no_token_sees_the_budget_of_the_address() -> None:
    async with limited(rate_limit_per_address=5) as client:
        response = await client.get("/api/v1/me")
        assert response.status_code == 401
        assert response.headers["ratelimit-policy"] == '"address";q=5;w=60'
        assert response.headers["ratelimit"] == '"address";r=4;t=61'


async def test_tokens_cannot_be_guessed_at_speed_and_then_not_even_a_good_one_is_looked_at() -> None:
    async with limited(rate_limit_failed_authentications=3) as client:
        for number in range(3):
            guess = {"Authorization": f"Bearer guess{number}"} | from_("198.51.100.1")
            assert (await client.get("/api/v1/me", headers=guess)).status_code == 401
        for headers in ({"Authorization": "Bearer guess"}, ALICE):
            response = await client.get("/api/v1/me", headers=headers | from_("198.51.100.1"))
            assert_refused(response, "failed-authentication", after=61)
        assert (await client.get("/api/v1/me", headers=ALICE | from_("198.51.100.2"))).status_code == 200


async def test_who_sends_no_token_at_all_guesses_nothing() -> None:
    async with limited(rate_limit_failed_authentications=1) as client:
        for _ in range(5):
            assert (await client.get("/api/v1/me")).status_code == 401
        assert (await client.get("/api/v1/me", headers=ALICE)).status_code == 200
        for _ in range(5):
            assert (await client.get("/api/v1/nothing", headers=ALICE)).status_code == 404


async def test_guesses_that_come_all_at_once_are_counted_too() -> None:
    async with limited(rate_limit_failed_authentications=5) as client:
        guess = {"Authorization": "Bearer guess"}
        answers = await asyncio.gather(*(client.get("/api/v1/me", headers=guess) for _ in range(20)))
        assert (await client.get("/api/v1/me", headers=guess)).status_code == 429
        assert {answer.status_code for answer in answers} <= {401, 429}


async def test_a_path_that_is_a_secret_cannot_be_guessed_either() -> None:
    async with limited(rate_limit_failed_authentications=2, rate_limit_per_address=400) as client:
        assert (await client.get("/api/v1/open/right.ics")).headers["ratelimit-policy"] == (
            '"address";q=400;w=60, "secret-address";q=10;w=60'
        )
        for _ in range(2):
            assert (await client.get("/api/v1/open/wrong.ics")).status_code == 404
        assert_refused(await client.get("/api/v1/open/right.ics"), "failed-authentication", after=61)
    async with limited(rate_limit_per_address=80) as client:
        answers = [(await client.get("/api/v1/open/right.ics")).status_code for _ in range(3)]
        assert answers == [200, 200, 429]
        assert (await client.head("/api/v1/open/right.ics")).status_code == 429
        assert (await client.get("/api/v1/me", headers=ALICE)).status_code == 200


async def test_a_sensitive_route_has_a_stricter_budget_for_each_principal() -> None:
    async with limited(rate_limit_per_user=200) as client:
        for number, left in enumerate((1, 0)):
            response = await client.post(f"/api/v1/keys/{number}", headers=ALICE)
            assert response.status_code == 200
            assert response.headers["ratelimit-policy"] == '"user";q=200;w=60, "credential";q=2;w=60'
            assert f'"credential";r={left}' in response.headers["ratelimit"]
        assert_refused(await client.post("/api/v1/keys/x", headers=ALICE), "credential", after=61)
        assert (await client.post("/api/v1/keys/x", headers=BOB)).status_code == 200
        assert (await client.get("/api/v1/me", headers=ALICE)).status_code == 200


async def test_what_machines_ask_is_exempt() -> None:
    async with limited(rate_limit_per_address=1) as client:
        for path in ("/health/live", "/metrics", "/dapr/subscribe", "/events/tasks") * 3:
            response = await client.get(path)
            assert response.status_code != 429
            assert "ratelimit" not in response.headers
        assert (await client.get("/healthy")).status_code == 404
        assert (await client.get("/healthy")).status_code == 429


async def test_a_refused_request_does_nothing_and_a_head_counts_like_its_get() -> None:
    async with limited(rate_limit_per_user=1) as client:
        assert (await client.head("/api/v1/me", headers=ALICE)).status_code == 200
        refused = await client.post("/api/v1/keys/x", headers=ALICE)
        assert_refused(refused, "user", after=61)
        assert "alice/x" not in refused.text


async def test_a_share_of_a_small_budget_is_at_least_one() -> None:
    async with limited(rate_limit_per_user=5) as client:
        answers = [(await client.post("/api/v1/keys/x", headers=ALICE)).status_code for _ in range(2)]
        assert answers == [200, 429]


@pytest.mark.parametrize("store", ["http://store", "valkey:/x", "memory://", "unix:///x"])
def test_a_store_that_is_no_valkey_is_refused_at_start(store: str) -> None:
    with pytest.raises(ValueError, match="TASKWIRE_RATE_LIMIT_STORE"):
        settings_for(ServiceSettings, rate_limit_store=store)
