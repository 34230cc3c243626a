"""What goes wrong and when: a schedule of faults, made from a seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from itertools import product
from typing import Final, TypeAlias


class Kind(StrEnum):
    """What a fault does."""

    KILL = "kill"
    """SIGKILL; the supervisor starts the part again."""
    FREEZE = "freeze"
    """SIGSTOP for a while: connections stay, nobody answers."""
    STOP = "stop"
    """SIGTERM, away for a while, started again."""
    REPLAY = "replay"
    """Records of the topic are published once more, in another order."""
    REWIND = "rewind"
    """A consumer group's offsets are set back."""
    POISON = "poison"
    """Records that no consumer can process are published."""
    REFUSE = "refuse"
    """The broker takes only small records for a while, so that of what is published together some is refused."""
    LOCK_OUT = "lock-out"
    """A consumer's database takes no connections for a while; the consumer itself runs on and is delivered to."""


LEADER: Final = "leader"
"""Stands for the replica of task-api whose relay published last, found out when the fault strikes."""

TASK_APIS: Final = ("task-api", "task-api-2")
CONSUMERS: Final = ("audit-worker", "notifier")
PARTS: Final = (
    *TASK_APIS,
    "daprd-task-api",
    "daprd-task-api-2",
    *CONSUMERS,
    "daprd-audit-worker",
    "daprd-notifier",
    "kafka",
    "postgres",
)
DISTURBANCES: Final = frozenset({Kind.KILL, Kind.FREEZE, Kind.STOP})
"""The kinds that hurt a part; the others only put records where they make work."""


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        at: Seconds from the beginning of its act.
        kind: What happens.
        target: A part, `LEADER`, a consumer (rewind, lock-out) or the topic.
        lasting: Seconds until it is over, for what lasts; a killed part comes back by itself.
    """

    at: float
    kind: Kind
    target: str
    lasting: float = 0.0


_Card = tuple[Kind, str]

# At the beginning, when all else is well, and once more at the very end, so that what still fails then is not hidden
# by a part that starts anew.
_CONSUMERS_AWAY: Final[Sequence[_Card]] = (
    (Kind.STOP, "audit-worker"),
    (Kind.STOP, "notifier"),
)
# One of each way to go wrong that a wrong design does not survive: in every schedule, however short.
ESSENTIAL: Final[Sequence[_Card]] = (
    *_CONSUMERS_AWAY,
    (Kind.KILL, LEADER),
    (Kind.FREEZE, LEADER),
    (Kind.STOP, "kafka"),
    (Kind.STOP, "postgres"),
    (Kind.KILL, "daprd-audit-worker"),
    (Kind.KILL, "daprd-notifier"),
    (Kind.KILL, "audit-worker"),
    (Kind.KILL, "notifier"),
)
LEAST_KILLS: Final = len(ESSENTIAL) + len(_CONSUMERS_AWAY)
_FURTHER: Final[Sequence[_Card]] = tuple(
    card for card in product((Kind.KILL, Kind.FREEZE, Kind.STOP), (*PARTS, LEADER)) if card not in ESSENTIAL
)
_INJECTIONS: Final[Sequence[_Card]] = (
    (Kind.POISON, "tasks"),
    (Kind.REPLAY, "tasks"),
    (Kind.REWIND, "audit-worker"),
    (Kind.REWIND, "notifier"),
    (Kind.REFUSE, "tasks"),
)
_AGAIN: Final = tuple(card for card in _INJECTIONS if card[0] is not Kind.REFUSE)
_INJECTIONS_EVERY: Final = 60.0
_CALM_BEFORE: Final = 3.0
_AWAY_LASTS: Final = 10.0
"""Four deliveries fail meanwhile, 3 s apart."""
_LOCKED_OUT_LASTS: Final = 6.0
_SOLO_ACTS_LAST: Final = _CALM_BEFORE + _AWAY_LASTS + _LOCKED_OUT_LASTS + _AWAY_LASTS
_SHORTEST_STORM: Final = 20.0
_LASTING: Final = {Kind.FREEZE: (2.0, 6.0), Kind.STOP: (4.0, 8.0), Kind.REFUSE: (5.0, 8.0)}
# Long enough that another relay takes over, so that the frozen one wakes up deposed; and that a relay has tried
# all it can while the broker is away, so that each task has several events waiting that could overtake each other.
_LASTING_LONGER: Final = {(Kind.FREEZE, LEADER): (9.0, 11.0), (Kind.STOP, "kafka"): (9.0, 11.0)}

Act: TypeAlias = list[Fault]
"""Faults in the order of time; the next act begins when all of this one has healed, however slow the machine is."""


class Scene(Enum):
    """An act without chance, of which a short schedule is made: each breaks some wrong designs within seconds."""

    AWAY = "both consumers are away, and the broker refuses some of what is published"
    LOCKED_OUT = "the consumers run, and their databases let nobody in"
    AGAIN = "poison is published, and consumers are given once more what they have had"


def make_schedule(seed: int, *, seconds: float, kills: int) -> list[Act]:
    """Make the same schedule for the same arguments.

    Most wrong designs survive some faults and not others, so the faults that matter most to them come alone, while
    all other parts are well: first both consumers are away and the broker refuses some of what is published, then
    the consumers' databases are. After that comes the storm, by chance; and at last the consumers are away again.

    Args:
        seed: Of the random choices.
        seconds: How long it shall take on a machine that is quick to heal.
        kills: How many times a part is killed, frozen or stopped.

    Raises:
        ValueError: Fewer than the essential ones were asked for.
    """
    if kills < LEAST_KILLS:
        raise ValueError(f"at least {LEAST_KILLS} kills are needed to try every kind of fault, not {kills}")
    chance = random.Random(seed)  # noqa: S311  (nothing secret)
    storm = max(_SHORTEST_STORM, seconds - _SOLO_ACTS_LAST)
    rounds = max(1, round(seconds / _INJECTIONS_EVERY))
    others = [card for card in ESSENTIAL if card not in _CONSUMERS_AWAY]
    blows = [*others, *_dealt(chance, kills - len(others) - 2 * len(_CONSUMERS_AWAY))]
    return [
        [Fault(_CALM_BEFORE, Kind.REFUSE, "tasks", _AWAY_LASTS), *_away(_CALM_BEFORE)],
        [Fault(0.0, Kind.LOCK_OUT, consumer, _LOCKED_OUT_LASTS) for consumer in CONSUMERS],
        sorted([*_spread(chance, blows, storm), *_spread(chance, [*_INJECTIONS] * rounds, storm)]),
        _away(0.0),
    ]


def make_short_schedule(scenes: Sequence[Scene]) -> list[Act]:
    """Make the schedule that has only these acts, and no storm."""
    acts: dict[Scene, Act] = {
        Scene.AWAY: [Fault(_CALM_BEFORE, Kind.REFUSE, "tasks", _AWAY_LASTS), *_away(_CALM_BEFORE)],
        Scene.LOCKED_OUT: [Fault(_CALM_BEFORE, Kind.LOCK_OUT, consumer, _LOCKED_OUT_LASTS) for consumer in CONSUMERS],
        Scene.AGAIN: [Fault(_CALM_BEFORE + at, *card) for at, card in enumerate(_AGAIN)],
    }
    return [acts[scene] for scene in scenes]


def _away(at: float) -> Act:
    return [Fault(at, *card, _AWAY_LASTS) for card in _CONSUMERS_AWAY]


def _dealt(chance: random.Random, count: int) -> list[_Card]:
    """Deal from a shuffled deck, and from another one when it is used up."""
    dealt: list[_Card] = []
    while len(dealt) < count:
        dealt += chance.sample(_FURTHER, min(len(_FURTHER), count - len(dealt)))
    return dealt


def _spread(chance: random.Random, cards: list[_Card], seconds: float) -> Act:
    """Put cards in a random order, each somewhere in its own equal part of the time."""
    chance.shuffle(cards)
    width = seconds / len(cards)
    return [
        Fault(round((place + chance.random()) * width, 2), kind, target, _duration(chance, kind, target))
        for place, (kind, target) in enumerate(cards)
    ]


def _duration(chance: random.Random, kind: Kind, target: str) -> float:
    shortest, longest = _LASTING_LONGER.get((kind, target)) or _LASTING.get(kind, (0.0, 0.0))
    return round(chance.uniform(shortest, longest), 2)
