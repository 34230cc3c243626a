"""The findings that people have looked at and accepted, each with its reason, and whether they are still needed."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_LONGEST_REASON: Final = 200


@dataclass(frozen=True)
class Accepted:
    """A finding that is known and no danger.

    Attributes:
        subject: The package or file it is about.
        finding: The advisory or rule.
        why: Why it is accepted.
    """

    subject: str
    finding: str
    why: str


@dataclass
class Exceptions:
    """What is accepted of one kind of finding, and what of it has been met.

    Attributes:
        accepted: All of them.
        met: Those that were found in this run.
    """

    accepted: list[Accepted]
    met: set[Accepted] = field(default_factory=set)

    def covers(self, subject: str, *findings: str) -> bool:
        """Whether a finding, under any of its names, is accepted; it counts as met from now on."""
        found = {one for one in self.accepted if one.subject == subject and one.finding in findings}
        self.met |= found
        return bool(found)

    def stale(self) -> list[str]:
        """Say of each one that was not met that it must go: it would hide what comes later under its name."""
        left = [one for one in self.accepted if one not in self.met]
        return [
            f"{one.subject}: {one.finding} is accepted, but not found any more: delete the exception" for one in left
        ]


def read(file: Path, *, kind: str, subject: str, finding: str) -> Exceptions:
    """Read the exceptions of one kind.

    Args:
        file: Where they are written.
        kind: Name of the tables.
        subject: Name of the key that says what it is about.
        finding: Name of the key that says what was found.

    Raises:
        ValueError: One has no reason, or one of more than a line.
    """
    accepted = [
        Accepted(one[subject], one[finding], one["why"]) for one in tomllib.loads(file.read_text()).get(kind, [])
    ]
    for one in accepted:
        if not one.why.strip() or "\n" in one.why or len(one.why) > _LONGEST_REASON:
            raise ValueError(f"{file.name}: {one.subject}: {one.finding} needs its reason, in one line")
    return Exceptions(accepted)
