"""The schedule: reproducible, complete, and within the time."""

import pytest
from tests.chaos.schedule import DISTURBANCES, ESSENTIAL, LEADER, LEAST_KILLS, PARTS, Fault, Kind, make_schedule


def cards(schedule: list[Fault]) -> set[tuple[Kind, str]]:
    return {(fault.kind, fault.target) for fault in schedule}


def test_a_seed_gives_the_same_schedule_again_and_another_seed_another_one() -> None:
    first = make_schedule(7, seconds=180, kills=30)
    assert make_schedule(7, seconds=180, kills=30) == first
    assert make_schedule(8, seconds=180, kills=30) != first


@pytest.mark.parametrize("seed", range(20))
def test_even_the_shortest_schedule_has_every_essential_fault(seed: int) -> None:
    schedule = make_schedule(seed, seconds=40, kills=LEAST_KILLS)
    assert set(ESSENTIAL) <= cards(schedule)
    assert set(Kind) - DISTURBANCES <= {fault.kind for fault in schedule}


def test_there_are_as_many_blows_as_asked_for_and_in_the_end_every_part_has_had_each_kind() -> None:
    schedule = make_schedule(1, seconds=600, kills=60)
    assert sum(fault.kind in DISTURBANCES for fault in schedule) == 60
    assert {(kind, part) for kind in DISTURBANCES for part in (*PARTS, LEADER)} <= cards(schedule)


def test_faults_come_in_the_order_of_time_and_leave_the_writers_some_calm_at_the_end() -> None:
    schedule = make_schedule(3, seconds=100, kills=20)
    assert schedule == sorted(schedule)
    assert schedule[0].at >= 3
    assert schedule[-1].at <= 90


def test_before_and_after_anything_else_both_consumers_are_away() -> None:
    first, second, *others, last_but_one, last = make_schedule(9, seconds=60, kills=20)
    for pair in ((first, second), (last_but_one, last)):
        assert {one.target for one in pair} == {"audit-worker", "notifier"}
        assert {one.kind for one in pair} == {Kind.STOP}
    assert min(other.at for other in others) >= max(one.at + one.lasting for one in (first, second))


def test_what_is_frozen_or_stopped_comes_back_and_a_leader_or_a_broker_not_soon() -> None:
    for fault in make_schedule(5, seconds=600, kills=66):
        lasts = fault.kind in {Kind.FREEZE, Kind.STOP, Kind.REFUSE}
        assert (fault.lasting > 0) == lasts
        assert fault.lasting >= 9 or (fault.kind, fault.target) not in {(Kind.FREEZE, LEADER), (Kind.STOP, "kafka")}


def test_too_few_blows_are_refused() -> None:
    with pytest.raises(ValueError, match=f"at least {LEAST_KILLS} kills are needed"):
        make_schedule(1, seconds=60, kills=LEAST_KILLS - 1)
