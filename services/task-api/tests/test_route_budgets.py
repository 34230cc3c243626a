"""Every line of the table of route budgets is about a route that there is, and is in force."""

from typing import Final

import httpx2
import pytest

from chassis.openapi import operations
from chassis.paths import API_PREFIX
from chassis.rate_limits.budgets import Key
from chassis.testing import bearer, serving, settings_for
from task_api.app import create_app
from task_api.route_budgets import ROUTE_BUDGETS
from task_api.settings import TaskApiSettings

PER_USER: Final = 100
PER_ADDRESS: Final = 40
"""Of which each route with a budget of its own may be asked a few times only, without a database."""


def test_every_line_is_a_route() -> None:
    there = {(method, path) for path, method, _ in operations(create_app(settings_for(TaskApiSettings)).openapi())}
    assert {(method, API_PREFIX + path) for method, path in ROUTE_BUDGETS} <= there


@pytest.mark.parametrize(("method", "path"), ROUTE_BUDGETS)
async def test_the_budget_of_a_route_is_in_force(method: str, path: str) -> None:
    budget = ROUTE_BUDGETS[method, path]
    whole = PER_USER if budget.key is Key.PRINCIPAL else PER_ADDRESS
    settings = settings_for(TaskApiSettings, rate_limit_per_user=PER_USER, rate_limit_per_address=PER_ADDRESS)
    answers: list[httpx2.Response] = []
    async with serving(create_app(settings)) as client:
        for _ in range(whole // budget.one_in + 1):
            url = API_PREFIX + path.format(feed_id=1, key_id=1, engagement_id=1, token="x")
            answers.append(await client.request(method, url, json={}, headers=bearer("alice")))
    assert {answer.status_code for answer in answers[:-1]}.isdisjoint({404, 429})
    assert (answers[-1].status_code, answers[-1].json()["code"]) == (429, "rate_limited")
    assert f"“{budget.name}”" in answers[-1].json()["detail"]
