"""Reads a line: takes what it understands out of it, and leaves the rest for the title. Never fails."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import TypeAdapter, ValidationError

from task_api.plain_words.due import take_due
from task_api.plain_words.scan import Part, Scan, phrase
from task_api.tasks.models import Priority
from task_api.tasks.recurrence import StoredRecurrence
from task_api.tasks.schemas import MAX_TAGS, Tag

# A tag begins with `#` and has a letter: `#1` is a number. What follows it as punctuation is not part of it.
_TAG: Final = phrase(r"#(?P<tag>[^\s#\x00]*?[^\s#\x00,.;:!?)\]])")
_PRIORITY: Final = phrase("!(?P<word>high|medium|low)|p(?P<number>[123])")
_PRIORITIES: Final[dict[str, Priority]] = {
    "high": "high", "medium": "medium", "low": "low", "1": "high", "2": "medium", "3": "low",
}  # fmt: skip
_tag: Final[TypeAdapter[str]] = TypeAdapter(Tag)


@dataclass(frozen=True)
class Reading:
    """What a line says.

    Attributes:
        parts: What was understood, in the order of the text.
        title: What was not.
    """

    parts: tuple[Part, ...]
    title: str
    priority: Priority
    tags: tuple[str, ...]
    due_at: datetime | None
    recurrence: StoredRecurrence | None


def read(text: str, *, time_zone: str, now: datetime) -> Reading:
    """Read a line.

    Args:
        text: Any text.
        time_zone: IANA name; days and times of day are those on the wall there.
        now: The moment of writing.
    """
    scan = Scan(text)
    due = take_due(scan, time_zone=time_zone, now=now)
    tags = _take_tags(scan)
    priority: Priority | None = scan.last(_PRIORITY, "priority", _read_priority)
    parts = tuple(sorted(scan.parts, key=lambda part: part.start))
    return Reading(parts, scan.title(), priority or "medium", tags, due.due_at, due.recurrence)


def _read_priority(found: re.Match[str]) -> Priority:
    return _PRIORITIES[found["word"] or found["number"]]


def _take_tags(scan: Scan) -> tuple[str, ...]:
    tags: dict[str, None] = {}

    def take(found: re.Match[str]) -> str | None:
        written = scan.written(*found.span("tag"))
        try:
            tag = _tag.validate_python(written)
        except ValidationError:
            return None
        if not any(character.isalpha() for character in tag) or (tag not in tags and len(tags) == MAX_TAGS):
            return None
        tags[tag] = None
        return tag

    scan.every(_TAG, "tag", take)
    return tuple(tags)
