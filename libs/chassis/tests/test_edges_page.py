"""docs/api/edges.md says the numbers that are in force."""

import re
from pathlib import Path
from typing import Final

import pytest

from chassis.cors import PREFLIGHT_SECONDS
from chassis.edge_settings import EdgeSettings
from chassis.rate_limits import budgets
from chassis.rate_limits.budgets import Budget, Key
from chassis.rate_limits.memory import MAX_COUNTERS
from chassis.request_heads import MAX_HEADER_BYTES, MAX_HEADERS, MAX_URL_BYTES
from chassis.slow_bodies import PROGRESS_BYTES

PAGE: Final = (Path(__file__).parents[3] / "docs" / "api" / "edges.md").read_text(encoding="utf-8")
ROWS: Final = dict(re.findall(r"^\| `([a-z-]+)` \| .*? \| (.*?) \|", PAGE, re.MULTILINE))
BUDGETS: Final = {budget.name: budget for budget in vars(budgets).values() if isinstance(budget, Budget)}


def default(name: str) -> int:
    number: int = EdgeSettings.model_fields[name].default
    return number


def test_every_budget_has_a_line() -> None:
    assert ROWS.keys() == BUDGETS.keys()


@pytest.mark.parametrize("name", BUDGETS)
def test_a_budget_has_its_number(name: str) -> None:
    budget = BUDGETS[name]
    whole = default("rate_limit_per_user" if budget.key is Key.PRINCIPAL else "rate_limit_per_address")
    if budget is budgets.FAILED_AUTHENTICATION:
        whole = default("rate_limit_failed_authentications")
    share = f" / {budget.one_in} = {whole // budget.one_in}"
    assert (share in ROWS[name]) if budget.one_in > 1 else ROWS[name].startswith(f"{whole:,} (")


def test_sizes_and_times_are_those_in_force() -> None:
    for said in (
        f"| URL | {MAX_URL_BYTES:,} bytes |",
        f"| headers | {MAX_HEADERS}, and {MAX_HEADER_BYTES:,} bytes",
        f"| line and headers, time | {default('head_timeout'):g} s (",
        f"| body, time | {default('body_timeout'):g} s for each {PROGRESS_BYTES:,} bytes",
        f"within {default('rate_limit_store_timeout'):g} s (",
        f"up to {MAX_COUNTERS:,} callers",
        f"\n{PREFLIGHT_SECONDS} s.",
    ):
        assert said in PAGE
