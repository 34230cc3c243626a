"""The schedule: reproducible, complete, and in acts."""

import pytest
from tests.chaos.schedule import (
    DISTURBANCES,
    ESSENTIAL,
    LEADER,
    LEAST_KILLS,
    PARTS,
    Act,
    Fault,
    Kind,
    Scene,
    make_schedule,
    make_short_schedule,
)


def faults(schedule: list[Act]) -> list[Fault]:
    return [fault for act in schedule for fault in act]


def cards(schedule: list[Act]) -> set[tuple[Kind, str]]:
    return {(fault.kind, fault.target) for fault in faults(schedule)}


def test_a_seed_gives_the_same_schedule_again_and_another_seed_another_one() -> None:
    first = make_schedule(7, seconds=180, kills=30)
    assert make_schedule(7, seconds=180, kills=30) == first
    assert make_schedule(8, seconds=180, kills=30) != first


@pytest.mark.parametrize("seed", range(20))
def test_even_the_shortest_schedule_has_every_essential_fault(seed: int) -> None:
    schedule = make_schedule(seed, seconds=40, kills=LEAST_KILLS)
    assert set(ESSENTIAL) <= cards(schedule)
    assert set(Kind) - DISTURBANCES <= {fault.kind for fault in faults(schedule)}


def test_there_are_as_many_blows_as_asked_for_and_in_the_end_every_part_has_had_each_kind() -> None:
    schedule = make_schedule(1, seconds=600, kills=60)
    assert sum(fault.kind in DISTURBANCES for fault in faults(schedule)) == 60
    assert {(kind, part) for kind in DISTURBANCES for part in (*PARTS, LEADER)} <= cards(schedule)


def test_faults_come_in_the_order_of_time_and_take_as_long_as_asked_for() -> None:
    schedule = make_schedule(3, seconds=100, kills=20)
    assert all(act == sorted(act) for act in schedule)
    longest = sum(max(fault.at for fault in act) for act in schedule) + 10 + 6 + 10
    assert 80 <= longest <= 100


def test_what_a_wrong_design_cannot_survive_comes_while_everything_else_is_well() -> None:
    away, locked_out, _, away_again = make_schedule(9, seconds=60, kills=20)
    both = {"audit-worker", "notifier"}
    assert {one.target for one in away if one.kind is Kind.STOP} == both
    assert [one.kind for one in away if one.target not in both] == [Kind.REFUSE]
    assert {(one.kind, one.target) for one in locked_out} == {(Kind.LOCK_OUT, consumer) for consumer in both}
    assert {(one.kind, one.target) for one in away_again} == {(Kind.STOP, consumer) for consumer in both}


def test_what_is_frozen_or_stopped_comes_back_and_a_leader_or_a_broker_not_soon() -> None:
    for fault in faults(make_schedule(5, seconds=600, kills=66)):
        lasts = fault.kind in {Kind.FREEZE, Kind.STOP, Kind.REFUSE, Kind.LOCK_OUT}
        assert (fault.lasting > 0) == lasts
        assert fault.lasting >= 9 or (fault.kind, fault.target) not in {(Kind.FREEZE, LEADER), (Kind.STOP, "kafka")}


def test_a_short_schedule_has_the_scenes_asked_for_and_together_they_have_every_kind_of_them() -> None:
    away, again = make_short_schedule([Scene.AWAY, Scene.AGAIN])
    assert {one.kind for one in away} == {Kind.REFUSE, Kind.STOP}
    assert {one.kind for one in again} == {Kind.POISON, Kind.REPLAY, Kind.REWIND}
    assert cards([away, again]) | cards(make_short_schedule([Scene.LOCKED_OUT])) == cards(make_short_schedule([*Scene]))


def test_too_few_blows_are_refused() -> None:
    with pytest.raises(ValueError, match=f"at least {LEAST_KILLS} kills are needed"):
        make_schedule(1, seconds=60, kills=LEAST_KILLS - 1)
