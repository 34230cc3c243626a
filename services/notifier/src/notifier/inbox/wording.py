"""What happened, in words for people."""

import unicodedata
from datetime import UTC, datetime
from typing import Final, assert_never

from pydantic import JsonValue

from task_events import FieldChange, TaskEvent, TaskEventType

MAX_QUOTED_CHARS: Final = 80
_ZERO_WIDTH_JOINER: Final = "\u200d"
# Embeddings, overrides and isolates: in a quotation they would turn the words around it.
_BIDI_CONTROLS: Final = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
_SKIN_TONES: Final = range(0x1F3FB, 0x1F400)
# The type of the event says these already.
_SAID_BY_TYPE: Final = frozenset({"completed", "completed_at", "deleted_at"})


def headline(event: TaskEvent) -> str:
    """Give one line that says what happened to which task, e.g. `Task completed: “Buy milk”`."""
    return f"Task {_verb(event.type)}: {_quoted(event.data.task.title)}"


def details(event: TaskEvent) -> str | None:
    """Give a line for each changed field that the headline does not tell, or None when there is none."""
    if event.type is TaskEventType.CREATED:
        return None
    lines = [_line(name, change) for name, change in event.data.changes.items() if name not in _SAID_BY_TYPE]
    return "\n".join(lines) or None


def shortened(text: str, limit: int = MAX_QUOTED_CHARS) -> str:
    """Give a text as one line of at most `limit` characters.

    It is cut between words when a word ends near the limit, and never inside what is seen as one character.
    """
    printable = (" " if unicodedata.category(char) == "Cc" else char for char in text.translate(_BIDI_CONTROLS))
    line = " ".join("".join(printable).split())
    if len(line) <= limit:
        return line
    end = limit - 1
    while end > 0 and (_extends(line[end]) or line[end - 1] == _ZERO_WIDTH_JOINER):
        end -= 1
    cut = line[: end or limit - 1]
    last_space = cut.rfind(" ")
    if line[end] != " " and last_space > limit // 2:
        cut = cut[:last_space]
    return f"{cut.rstrip(' ,;:')}…"


def _verb(kind: TaskEventType) -> str:
    match kind:
        case TaskEventType.CREATED:
            return "created"
        case TaskEventType.UPDATED:
            return "updated"
        case TaskEventType.COMPLETED:
            return "completed"
        case TaskEventType.REOPENED:
            return "reopened"
        case TaskEventType.DELETED:
            return "deleted"
        case TaskEventType.RESTORED:
            return "restored"
        case _:
            assert_never(kind)


def _line(name: str, change: FieldChange) -> str:
    match name:
        case "title":
            return f"Title: {_quoted(change.old)} → {_quoted(change.new)}"
        case "priority":
            return f"Priority: {_plain(change.old)} → {_plain(change.new)}"
        case "due_at":
            return f"Due: {_moment(change.old)} → {_moment(change.new)}"
        case _:
            label = shortened(name.replace("_", " ")).capitalize()
            return f"{label} {_kind_of_change(change)}"


def _kind_of_change(change: FieldChange) -> str:
    if change.old is None:
        return "added"
    return "removed" if change.new is None else "changed"


def _quoted(value: JsonValue) -> str:
    return "none" if value is None else f"“{shortened(str(value))}”"


def _plain(value: JsonValue) -> str:
    return "none" if value is None else shortened(str(value))


def _moment(value: JsonValue) -> str:
    try:
        moment = datetime.fromisoformat(str(value)).astimezone(UTC)
    except (ValueError, OverflowError):
        return _plain(value)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _extends(char: str) -> bool:
    """Tell whether a character is shown as part of the one before."""
    is_mark = unicodedata.category(char).startswith("M")
    return is_mark or char == _ZERO_WIDTH_JOINER or ord(char) in _SKIN_TONES
