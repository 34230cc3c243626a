"""Cursors of the feed: opaque, sealed, and of use to one user only.

A cursor is a packed position, sealed for its user. Its owner's tasks are all that a statement ever reads; the seal is
there so that nobody builds on what is inside.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Final, Self

from chassis.errors import FieldProblem, InvalidInputError
from task_api.sealing import BrokenSealError, Seal
from task_api.sync.models import Position

MAX_CURSOR_CHARS: Final = 128
_VERSION: Final = 1
_LAYOUT: Final = struct.Struct(">BQQQI8s")  # version, xid, task, full sync until, hour of issue, history
_HOUR: Final = 3600


class InvalidCursorError(InvalidInputError):
    """The cursor is none of ours, or not this user's."""

    code = "invalid_cursor"

    def __init__(self, field: str) -> None:
        message = "is not a cursor that this feed gave to this user"
        super().__init__(f"{field}: {message}", errors=[FieldProblem(field=field, message=message)])


@dataclass(frozen=True)
class Cursor:
    """What is in a cursor.

    Attributes:
        position: In the feed.
        history: Digest of the history that the position is of.
        hour: When it was given out, in hours since 1970: cursors of the same place stay the same for a while.
    """

    position: Position
    history: bytes
    hour: int

    @classmethod
    def of(cls, position: Position, history: str, now: float) -> Self:
        """Make the cursor of a place in a history's feed."""
        return cls(position, digest(history), int(now // _HOUR))

    def age(self, now: float) -> float:
        """Give the seconds since it was given out, at most an hour too many."""
        return now - self.hour * _HOUR


def digest(history: str) -> bytes:
    """Give the few bytes of a history's name that a cursor has room for."""
    return hashlib.sha256(history.encode()).digest()[:8]


class CursorCodec:
    """Writes and reads cursors."""

    def __init__(self, secret: bytes) -> None:
        self._seal = Seal(secret, b"taskwire feed cursor")

    def write(self, owner_id: str, cursor: Cursor) -> str:
        """Give a user's cursor as text."""
        place = cursor.position
        body = _LAYOUT.pack(_VERSION, place.xid, place.task_id, place.full_until, cursor.hour, cursor.history)
        return self._seal.close(body, bound_to=owner_id.encode())

    def read(self, owner_id: str, text: str, *, field: str) -> Cursor:
        """Read a cursor.

        Args:
            owner_id: Whose it must be.
            text: What the caller sent.
            field: Where the caller sent it.

        Raises:
            InvalidCursorError: It was not made here, or for somebody else.
        """
        try:
            body = self._seal.open(text, bound_to=owner_id.encode())
        except BrokenSealError:
            raise InvalidCursorError(field) from None
        if len(body) != _LAYOUT.size:
            raise InvalidCursorError(field)
        version, xid, task_id, full_until, hour, history = _LAYOUT.unpack(body)
        if version != _VERSION:
            raise InvalidCursorError(field)
        return Cursor(Position(xid, task_id, full_until), history, hour)
