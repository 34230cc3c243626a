"""Well-known wrong designs, and which invariant each of them breaks: the proof that the suite can fail."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.chaos.invariants import Invariant, Violation
from tests.chaos.schedule import Scene

from devstack.layout import REPOSITORY

_COMPONENTS: Final = REPOSITORY / "components"
_SABOTEUR: Final = Path(__file__).parent / "saboteur"
_ENDLESS: Final = "        policy: constant\n        duration: 3s\n        maxRetries: -1\n"
_BREAKER: Final = """\
      delivery:
        maxRequests: 1
        timeout: 90s
        trip: consecutiveFailures > 1
"""
_CONSUME_RETRY: Final = '    - name: consumeRetryEnabled\n      value: "true"\n'
_INBOUND: Final = "          timeout: delivery\n          retry: delivery\n"

Edit = tuple[str, str, str]
"""A file of `components/`, what is there, and what stands there instead."""


@dataclass(frozen=True)
class WrongDesign:
    """One way to build it wrong.

    Attributes:
        name: For the command line; also what `saboteur/sitecustomize.py` goes by.
        what: What is wrong, for the table.
        breaks: At least one of these invariants must be seen broken; none may when this is empty.
        edits: What it changes in the Dapr resources.
        scenes: What breaks it within seconds, for the short proof; every one for the design as it is.
    """

    name: str
    what: str
    breaks: frozenset[Invariant]
    edits: tuple[Edit, ...] = field(default=())
    scenes: tuple[Scene, ...] = (Scene.AWAY,)

    def environment(self, home: Path) -> Mapping[str, str]:
        """Give the settings of a stack that is built like this.

        Args:
            home: Where the changed Dapr resources may be kept.

        Raises:
            ValueError: The resources are no longer what the edits were made for.
        """
        components = home / "components"
        shutil.copytree(_COMPONENTS, components)
        for name, old, new in self.edits:
            text = (components / name).read_text()
            if text.count(old) != 1:
                raise ValueError(f"components/{name} has changed: sabotage {self.name} must be adapted to it")
            (components / name).write_text(text.replace(old, new))
        return {
            "TASKWIRE_COMPONENTS": str(components),
            "PYTHONPATH": str(_SABOTEUR),
            "CHAOS_SABOTAGE": self.name,
        }

    def is_as_expected(self, violations: Sequence[Violation]) -> bool:
        """Whether the suite has seen what is wrong with it, and not only something else."""
        if not self.breaks:
            return not violations
        return any(violation.invariant in self.breaks for violation in violations)


_GIVEN_UP: Final = frozenset({Invariant.HEALTHY, Invariant.AUDITED, Invariant.NOTIFIED})

CONTROL: Final = WrongDesign(
    "none", "the design as it is, with the same faults and as little patience", frozenset(), scenes=tuple(Scene)
)
"""Runs beside the wrong ones: were it noticed too, the others would prove nothing."""

WRONG_DESIGNS: Final = (
    WrongDesign(
        "commit-then-publish",
        "the event is published after the commit, without an outbox",
        frozenset({Invariant.AUDITED, Invariant.KEPT}),
    ),
    WrongDesign(
        "no-one-per-task",
        "the relay sends several unacknowledged events of one task",
        frozenset({Invariant.ORDERED}),
    ),
    WrongDesign(
        "no-inbox",
        "consumers do not recognise what they have processed before",
        frozenset({Invariant.HEALTHY, Invariant.AUDITED}),
        scenes=(Scene.AGAIN,),
    ),
    WrongDesign(
        "unbounded-retry",
        "consumers never give up an event that they cannot process",
        frozenset({Invariant.BURIED}),
        scenes=(Scene.AGAIN,),
    ),
    WrongDesign(
        "answer-first",
        "consumers answer before they have committed",
        frozenset({Invariant.AUDITED, Invariant.NOTIFIED}),
        scenes=(Scene.LOCKED_OUT,),
    ),
    WrongDesign(
        "inbound-breaker",
        "a circuit breaker on inbound delivery",
        _GIVEN_UP,
        (
            ("resiliency.yaml", "    circuitBreakers:\n", "    circuitBreakers:\n" + _BREAKER),
            ("resiliency.yaml", _INBOUND, _INBOUND + "          circuitBreaker: delivery\n"),
        ),
    ),
    WrongDesign(
        "short-retry",
        "the sidecar gives up after a few tries, however long the outage",
        _GIVEN_UP,
        (("resiliency.yaml", _ENDLESS, _ENDLESS.replace("3s", "500ms").replace("-1", "3")),),
    ),
    WrongDesign(
        "no-consume-retry",
        "consumeRetryEnabled: false, and no retry policy above it",
        _GIVEN_UP,
        (
            ("pubsub.yaml", _CONSUME_RETRY, _CONSUME_RETRY.replace("true", "false")),
            ("resiliency.yaml", _INBOUND, "          timeout: delivery\n"),
        ),
    ),
)
