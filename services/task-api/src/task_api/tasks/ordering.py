"""The order that owners give to their tasks themselves: `position`, a text that sorts byte by byte.

Between any two positions there is another, so a move writes one row and one event; whole numbers with gaps would
have to renumber neighbours now and then, an event for each. A position is 14 hexadecimal digits and, where those
leave no room, more digits to the base 62.
"""

import string
from datetime import UTC, datetime, timedelta
from typing import Final

from chassis.errors import FieldProblem, InvalidInputError

MAX_POSITION_CHARS: Final = 200
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WHOLE: Final = 14
_DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase  # in the order of their bytes
_STEP: Final = 1_000_000


class InvalidMoveError(InvalidInputError):
    """The task cannot be moved there."""

    code = "invalid_move"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}", errors=[FieldProblem(field=field, message=message)])


def position_at(moment: datetime) -> str:
    """Give the position at the end as it is at a moment: microseconds since 1970 in hexadecimal.

    No two replicas have to agree on what the last position is, and no row has to be read to create a task.
    """
    return _whole((moment - _EPOCH) // timedelta(microseconds=1))


def position_between(before: str | None, after: str | None, *, now: datetime) -> str:
    """Give a position after `before` and before `after`; None stands for the end of the list on that side.

    Raises:
        ValueError: There is none of at most `MAX_POSITION_CHARS` characters, or `before` is not before `after`.
    """
    if before is not None and after is not None and before >= after:
        raise ValueError("there is nothing between these positions")
    if after is None:
        return max(position_at(now), "" if before is None else _whole(int(before[:_WHOLE], 16) + 1))
    if before is None:
        return _whole(max(0, int(after[:_WHOLE], 16) - _STEP)) if int(after[:_WHOLE], 16) else _room("", after)
    low, high = int(before[:_WHOLE], 16), int(after[:_WHOLE], 16)
    return _whole((low + high) // 2) if high - low > 1 else _room(before, after)


def _whole(number: int) -> str:
    return f"{number:0{_WHOLE}x}"


def _room(before: str, after: str) -> str:
    """Find digits to put after the whole part of the lower position."""
    whole = before[:_WHOLE] or "0" * _WHOLE
    low = before[_WHOLE:]
    high = after[_WHOLE:] if after.startswith(whole) else ""
    found, bounded = "", bool(high)
    for at in range(MAX_POSITION_CHARS - _WHOLE):
        first = _DIGITS.index(low[at]) if at < len(low) else 0
        last = _DIGITS.index(high[at]) if bounded and at < len(high) else len(_DIGITS)
        if last - first > 1:
            return whole + found + _DIGITS[(first + last) // 2]
        found += _DIGITS[first]
        bounded = bounded and first == last
    raise ValueError(f"a position has at most {MAX_POSITION_CHARS} characters")
