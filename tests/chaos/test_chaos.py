"""The suite itself, short enough for every change: no fault loses, doubles or reorders anything."""

import pytest
from tests.chaos.report import table
from tests.chaos.run import Plan, run

pytestmark = pytest.mark.chaos


def test_every_invariant_holds_after_a_minute_of_faults() -> None:
    plan = Plan(seed=1, seconds=60, kills=14)
    said: list[str] = []
    result = run(plan, {}, said.append)
    assert result.held, "\n".join([*said, table(result)])
    assert [one.fault for one in sorted(result.struck, key=lambda one: one.fault)] == plan.schedule
    # Or it would have held for want of anything to lose.
    assert len(result.ledger.acknowledged) > 100
    assert result.evidence.poison
