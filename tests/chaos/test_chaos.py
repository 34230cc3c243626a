"""The suite itself, short enough for every change: no fault loses, doubles or reorders anything."""

import pytest
from tests.chaos.report import table
from tests.chaos.run import Plan, run

pytestmark = [
    pytest.mark.chaos,
    # Clients whose broker is killed amid their first words leave the socket to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_every_invariant_holds_after_a_minute_of_faults() -> None:
    # As long as anything moves there is time: a slow machine takes what it needs.
    plan = Plan(seed=1, seconds=60, kills=14, deadline=900)
    said: list[str] = []
    result = run(plan, {}, said.append)
    assert result.held, "\n".join([*said, table(result)])
    assert [one.fault for one in result.struck] == [fault for act in plan.schedule for fault in act]
    # Or it would have held for want of anything to lose.
    assert len(result.ledger.acknowledged) > 100
    assert result.evidence.poison
