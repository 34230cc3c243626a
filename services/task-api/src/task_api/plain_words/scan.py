"""A text while it is read: what may still be understood, and what became of each part.

Patterns never see the text itself but a shadow of it, of the same length: ASCII letters are small, white space of any
kind is a space, and what must not be understood (escaped, quoted, or taken already) is NUL, which no pattern matches.
So spans in the shadow are spans in the text.
"""

import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

PartKind = Literal["recurrence", "date", "time", "tag", "priority"]
Value = TypeVar("Value")

_TAKEN: Final = "\x00"
_SMALL: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_BEGINS: Final = r"(?<![^ (\[])"
_CLOSING: Final = tuple(",.;:!?)]")
_ENDS: Final = r"(?=[,.;:!?)\]]*(?: |$))"
_ESCAPED: Final = re.compile(r"(?<![^ (\[])\\[^ ]+")
_QUOTED: Final = re.compile(r'(?<![^ (\[])(?:"[^"]*"|\u201c[^\u201c\u201d]*\u201d)')


def phrase(pattern: str) -> re.Pattern[str]:
    """Compile the pattern of a phrase: whole words only, and as many spaces as the writer likes.

    A space in the pattern stands for one or more, ` ?` for any number.
    """
    spaced = pattern.replace(" ?", r"\s*").replace(" ", r"\s+")
    return re.compile(f"{_BEGINS}(?:{spaced}){_ENDS}", re.ASCII)


@dataclass(frozen=True)
class Part:
    """A part of the text that was understood.

    Attributes:
        kind: As what.
        start: Its first character; characters are Unicode code points, counted from 0.
        end: The one after its last.
    """

    kind: PartKind
    start: int
    end: int


class Scan:
    """One text, of which part after part is taken."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._shadow = "".join(" " if character.isspace() else character for character in text).translate(_SMALL)
        self._backslashes: set[int] = set()
        for escaped in _ESCAPED.finditer(self._shadow):
            self._backslashes.add(escaped.start())
            self._take(escaped.start(), escaped.end())
        for quoted in _QUOTED.finditer(self._shadow):
            self._take(quoted.start(), quoted.end())
        self.parts: list[Part] = []

    def every(
        self, pattern: re.Pattern[str], kind: PartKind, read: Callable[[re.Match[str]], Value | None]
    ) -> list[Value]:
        """Take all that the pattern finds and `read` understands; what it gives None for stays in the text."""
        values = []
        for found in list(pattern.finditer(self._shadow)):
            value = read(found)
            if value is not None:
                values.append(value)
                self._keep(kind, found)
        return values

    def last(
        self, pattern: re.Pattern[str], kind: PartKind, read: Callable[[re.Match[str]], Value | None]
    ) -> Value | None:
        """Take the last that is understood: who types on means it. Earlier ones are words of the title."""
        understood = [(value, found) for found in pattern.finditer(self._shadow) if (value := read(found)) is not None]
        if not understood:
            return None
        for _, found in understood:
            self._take(*found.span())
        value, found = understood[-1]
        self._keep(kind, found)
        return value

    def written(self, start: int, end: int) -> str:
        """Give what the writer wrote there."""
        return self._text[start:end]

    def release(self, *kinds: PartKind) -> None:
        """Leave these in the text after all."""
        self.parts = [part for part in self.parts if part.kind not in kinds]

    def title(self) -> str:
        """Give what is left, without the backslashes that escaped something, single spaces, none before a comma."""
        left, position = "", 0
        for part in sorted(self.parts, key=lambda part: part.start):
            left += self._left_between(position, part.start)
            position = part.end
            if self._text[position : position + 1] in _CLOSING:
                left = left.rstrip()
        return " ".join((left + self._left_between(position, len(self._text))).split())

    def _left_between(self, start: int, end: int) -> str:
        return "".join(self._text[i] for i in range(start, end) if i not in self._backslashes)

    def _keep(self, kind: PartKind, found: re.Match[str]) -> None:
        self._take(*found.span())
        self.parts.append(Part(kind, *found.span()))

    def _take(self, start: int, end: int) -> None:
        self._shadow = self._shadow[:start] + _TAKEN * (end - start) + self._shadow[end:]
