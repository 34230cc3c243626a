"""The ledger of gaps: what opens, what shrinks, what closes."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.gaps import Gap, Ledger

MORNING = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
Shape = tuple[int, int, bool]


def stored(from_version: int, to_version: int, subject: str = "7", number: int = 1) -> Gap:
    return Gap(number, subject, from_version, to_version, MORNING)


def shapes(gaps: list[Gap]) -> list[Shape]:
    return sorted((gap.from_version, gap.to_version, gap.closed) for gap in gaps)


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        (2, [(2, 2, True), (3, 5, False)]),
        (5, [(2, 4, False), (5, 5, True)]),
        (3, [(2, 2, False), (3, 3, True), (4, 5, False)]),
    ],
)
def test_what_arrives_late_is_cut_out_of_its_gap_and_kept_as_closed(version: int, wanted: list[Shape]) -> None:
    ledger = Ledger([stored(2, 5)])
    assert ledger.fill("7", version)
    assert shapes(ledger.changed) == wanted
    assert {gap.detected_at for gap in ledger.changed} == {MORNING}


def test_the_last_missing_version_closes_the_gap_itself() -> None:
    gap = stored(4, 4)
    ledger = Ledger([gap])
    assert ledger.fill("7", 4)
    assert ledger.changed == [gap]
    assert gap.closed


@pytest.mark.parametrize(("subject", "version"), [("7", 1), ("7", 6), ("8", 3)])
def test_what_was_not_missing_changes_nothing(subject: str, version: int) -> None:
    ledger = Ledger([stored(2, 5)])
    assert not ledger.fill(subject, version)
    assert ledger.changed == []


def test_a_version_is_recovered_once() -> None:
    ledger = Ledger([stored(2, 5)])
    assert [ledger.fill("7", 3), ledger.fill("7", 3)] == [True, False]


@given(st.lists(st.integers(1, 12), max_size=30))
def test_in_any_order_what_is_open_is_exactly_what_has_not_arrived(arrivals: list[int]) -> None:
    gaps = [stored(1, 4), stored(6, 6, number=2), stored(8, 10, number=3)]
    missing = {1, 2, 3, 4, 6, 8, 9, 10}
    ledger = Ledger(gaps)
    for version in arrivals:
        assert ledger.fill("7", version) == (version in missing)
        missing.discard(version)
    everything = {id(gap): gap for gap in [*gaps, *ledger.changed]}.values()
    covered = [(version, gap.closed) for gap in everything for version in range(gap.from_version, gap.to_version + 1)]
    assert sorted(version for version, _ in covered) == [1, 2, 3, 4, 6, 8, 9, 10]
    assert {version for version, closed in covered if not closed} == missing
