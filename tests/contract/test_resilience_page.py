"""docs/resilience.md forgets no call, names tests that exist, and says the figures that are in force."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from audit_worker.trail import members
from chassis.consumer import DELIVERY_TIMEOUT
from chassis.health import CHECK_TIMEOUT
from chassis.identity import introspection
from chassis.identity.jwks import FETCH_FLOOR, POLICY
from chassis.resilience import CallPolicy
from task_api.settings import TaskApiSettings

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "resilience.md").read_text(encoding="utf-8")
ROWS: Final = {
    number: [cell.strip() for cell in cells.split(" | ")]
    for number, cells in re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE)
}
"""Number of each line of the table → call, timeout, retries, breaker, what others see."""

TESTS: Final = dict(re.findall(r"^(\d+)\. ((?:.|\n   )*)", PAGE, re.MULTILINE))
RESILIENCY: Final = (ROOT / "components" / "resiliency.yaml").read_text(encoding="utf-8")


def policies() -> dict[str, dict[str, float]]:
    """Every `CallPolicy(…)` in what is deployed: its name, and the figures it gives as literals."""
    found = {}
    for source in [*ROOT.glob("libs/*/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py")]:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == CallPolicy.__name__:
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                name = node.args[0] if node.args else given["name"]
                assert isinstance(name, ast.Constant), f"{source}: give the name of a call as a literal"
                found[str(name.value)] = {
                    str(field): float(value.value)
                    for field, value in given.items()
                    if isinstance(value, ast.Constant) and isinstance(value.value, int | float)
                }
    return found


def row_of(call: str) -> list[str]:
    (row,) = [row for row in ROWS.values() if f"`{call}`" in row[0]]
    return row


def written(pattern: str) -> str:
    """A figure in components/resiliency.yaml."""
    found = re.search(pattern, RESILIENCY, re.DOTALL)
    assert found, pattern
    return found[1]


def test_the_table_can_be_read() -> None:
    assert [int(number) for number in ROWS] == list(range(1, len(ROWS) + 1))
    assert {len(row) for row in ROWS.values()} == {5}
    assert len(policies()) >= 3


def test_every_call_with_a_policy_is_in_the_table() -> None:
    known = {name for row in ROWS.values() for name in re.findall(r"\(`([\w-]+)`\)", row[0])}
    assert known == set(policies())


@pytest.mark.parametrize("number", ROWS)
def test_every_line_names_tests_that_exist(number: str) -> None:
    named = re.findall(r"`([^`]+)`", TESTS.get(number, ""))
    assert any(name.startswith("test_") for name in named), "a line without a test"
    source = ""
    for name in named:
        if name.endswith(".py"):
            source = (ROOT / name).read_text(encoding="utf-8")
        else:
            assert f"def {name}(" in source, f"there is no {name}"


@pytest.mark.parametrize("call", policies())
def test_breakers_are_described_as_they_are(call: str) -> None:
    default = CallPolicy(call, timeout=1)
    figures = policies()[call]
    failures = figures.get("failure_threshold", default.failure_threshold)
    seconds = figures.get("recovery_timeout", default.recovery_timeout)
    assert row_of(call)[3].startswith(f"{failures:g} failures in a row open it for {seconds:g} s")


def test_timeouts_are_those_of_the_settings_and_constants() -> None:
    # Those of tests are longer.
    defaults = {name: field.default for name, field in TaskApiSettings.model_fields.items()}
    pool, connect, statement, lock = (
        defaults[f"database_{name}_timeout"] for name in ("pool", "connect", "statement", "lock")
    )
    each = f"{pool:g} s for one of the pool, {connect:g} s for that one to answer or to connect"
    assert row_of("database")[1] == f"{each}, {pool + connect:g} s in all"
    assert f"after {CHECK_TIMEOUT:g} s at most" in row_of("database")[4]
    assert ROWS["2"][1].startswith(f"{statement:g} s (`statement_timeout`), {lock:g} s for a lock")
    assert f"{statement + 1:g} s at the client" in ROWS["2"][1]
    assert row_of("dapr-publish")[1].startswith(f"{defaults['relay_publish_timeout']:g} s;")
    assert row_of("jwks")[1].startswith(f"{POLICY.timeout:g} s")
    assert row_of("jwks")[2].startswith(f"{POLICY.attempts - 1}, with jitter")
    assert row_of("introspection")[1].startswith(f"{introspection.POLICY.timeout:g} s")
    assert row_of("introspection")[2].startswith(f"{introspection.POLICY.attempts - 1}, with jitter")
    assert f"in the last {introspection.POSITIVE_FOR:g} s" in row_of("introspection")[4]
    assert row_of("membership")[1].startswith(f"{members.POLICY.timeout:g} s")
    assert row_of("membership")[2].startswith(f"{members.POLICY.attempts - 1}, with jitter")
    assert f"one fetch in {FETCH_FLOOR:g} s" in row_of("jwks")[3]
    assert row_of("rate-limit-store")[1] == f"{defaults['rate_limit_store_timeout']:g} s"


def test_the_sidecars_figures_are_those_of_its_resource() -> None:
    publish, delivery = written(r"timeouts:.*?publish: (\d+)s"), written(r"timeouts:.*?delivery: (\d+)s")
    every = written(r"retries:.*?duration: (\d+)s")
    assert written(r"retries:.*?maxRetries: (-?\d+)") == "-1"
    failures, closed_for = written(r"trip: consecutiveFailures > (\d+)"), written(r"circuitBreakers:.*?timeout: (\d+)s")
    assert ROWS["5"][1].startswith(f"{publish} s")
    assert ROWS["5"][3] == f"more than {failures} failures in a row open it for {closed_for} s"
    for number in ("7", "8"):
        assert ROWS[number][1].startswith(f"{delivery} s; the handler itself stops at {DELIVERY_TIMEOUT:g} s")
        assert ROWS[number][2].startswith(f"every {every} s, for ever")
        assert ROWS[number][3].startswith("none")
    inbound = written(r"(inbound:.*?)outbound:")
    assert "circuitBreaker" not in inbound
