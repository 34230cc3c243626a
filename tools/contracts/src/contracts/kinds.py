"""What the contract of events and that of each HTTP API have in common."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from contracts.releases import Breaks, Contract


@dataclass(frozen=True)
class Kind:
    """One contract that is kept.

    Attributes:
        name: For people, and for `make contract RELEASE=…`.
        current: Gives the contract as the code has it now.
        files: Gives every file that follows from the code, by its path in `specs/`.
        released: Where its releases are, in `specs/`.
        breaks: Compares two of them.
        broken: Who is hurt and how to go on, where the placeholders `{major}` and `{next}` are numbers.
        version_is_in: Where a person raises its version.
    """

    name: str
    current: Callable[[], Contract]
    files: Callable[[], Mapping[str, str]]
    released: str
    breaks: Breaks
    broken: str
    version_is_in: str

    def advice(self, major: int) -> str:
        """Say who is hurt and how to go on."""
        return self.broken.format(major=major, next=major + 1)


def as_text(document: Mapping[str, JsonValue]) -> str:
    """Give the text of a committed document."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
