"""The order that owners give to their tasks themselves: `position`, a text that sorts byte by byte."""

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WHOLE_DIGITS: Final = 14


def position_at(moment: datetime) -> str:
    """Give the position at the end as it is at a moment: microseconds since 1970 in hexadecimal.

    No two replicas have to agree on what the last position is, and no row has to be read to create a task.
    """
    return f"{(moment - _EPOCH) // timedelta(microseconds=1):0{_WHOLE_DIGITS}x}"
