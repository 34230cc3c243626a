"""Cursors of task lists: where a page ended, sealed for one user and one query.

A cursor is the sort keys of the last item, a fingerprint of the query and one of the user. Callers cannot make or
alter one, so what is in it may go into a statement as it is; and a cursor cannot be carried to another query, where it
would silently skip tasks, nor to another user.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Final

from chassis.errors import FieldProblem, InvalidInputError
from task_api.sealing import BrokenSealError, Seal

MAX_LIST_CURSOR_CHARS: Final = 2_000
"""A title of 200 control characters, each escaped, makes the longest, of about 1,700."""
_FINGERPRINT_BYTES: Final = 9


class InvalidCursorError(InvalidInputError):
    """The cursor was not made by this service, or was altered."""

    code = "invalid_cursor"

    def __init__(self) -> None:
        message = "is not a cursor that this list returned"
        super().__init__(f"cursor {message}", errors=[FieldProblem(field="query.cursor", message=message)])


class CursorMismatchError(InvalidInputError):
    """The cursor belongs to another query or to another user."""

    code = "cursor_mismatch"

    def __init__(self) -> None:
        message = "belongs to another list: filters, sort and user must be those of the page it came with"
        super().__init__(f"cursor {message}", errors=[FieldProblem(field="query.cursor", message=message)])


class ListCursors:
    """Writes and reads cursors."""

    def __init__(self, secret: bytes) -> None:
        self._seal = Seal(secret, b"taskwire list cursors 1")

    def write(self, keys: Sequence[str], *, user_id: str, query: str) -> str:
        """Make the cursor for what comes after an item.

        Args:
            keys: The item's sort keys, as PostgreSQL writes them.
            user_id: Whose list it is.
            query: Filters and sort in one normal form.
        """
        content = json.dumps(list(keys), ensure_ascii=False, separators=(",", ":")).encode()
        return self._seal.close(_marks(query, user_id) + content)

    def read(self, cursor: str, *, user_id: str, query: str) -> list[str]:
        """Give the sort keys in a cursor.

        Raises:
            InvalidCursorError: It is none of ours.
            CursorMismatchError: It is ours and belongs elsewhere.
        """
        try:
            content = self._seal.open(cursor)
        except BrokenSealError as error:
            raise InvalidCursorError from error
        # In the content and not bound to the seal: one that belongs elsewhere is told from one that is not ours.
        marks = _marks(query, user_id)
        if not content.startswith(marks):
            raise CursorMismatchError
        return [str(key) for key in json.loads(content.removeprefix(marks))]


def _marks(query: str, user_id: str) -> bytes:
    return _fingerprint(query) + _fingerprint(user_id)


def _fingerprint(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:_FINGERPRINT_BYTES]
