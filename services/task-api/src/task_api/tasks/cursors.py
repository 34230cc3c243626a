"""Cursors of task lists: where a page ended, sealed for one user and one query.

A cursor is the sort keys of the last item, a fingerprint of the query and one of the user, and an HMAC over
them. Callers cannot make or alter one, so what is in it may go into a statement as it is; and a cursor cannot be
carried to another query, where it would silently skip tasks, nor to another user.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Final

from chassis.errors import FieldProblem, InvalidInputError

MAX_LIST_CURSOR_CHARS: Final = 2_000
"""A title of 200 control characters, each escaped, makes the longest, of about 1,700."""
_FINGERPRINT_BYTES: Final = 9
_SEAL_BYTES: Final = 16


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


class CursorSeal:
    """Makes and reads cursors with one secret, the same in every replica."""

    def __init__(self, secret: bytes) -> None:
        # Derived, so that a secret with another purpose can be the source and nothing here reveals it.
        self._key = hmac.digest(secret, b"taskwire list cursors 1", "sha256")

    def seal(self, keys: Sequence[str], *, user_id: str, query: str) -> str:
        """Make the cursor for what comes after an item.

        Args:
            keys: The item's sort keys, as PostgreSQL writes them.
            user_id: Whose list it is.
            query: Filters and sort in one normal form.
        """
        marks = _fingerprint(query) + _fingerprint(user_id)
        content = marks + json.dumps(list(keys), ensure_ascii=False, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._mac(content) + content).decode().rstrip("=")

    def open(self, cursor: str, *, user_id: str, query: str) -> list[str]:
        """Give the sort keys in a cursor.

        Raises:
            InvalidCursorError: It is none of ours.
            CursorMismatchError: It is ours and belongs elsewhere.
        """
        try:
            # With the alphabet checked and no stray bits: else one cursor could be written in many ways.
            data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidCursorError from error
        seal, content = data[:_SEAL_BYTES], data[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._mac(content)):
            raise InvalidCursorError
        marks, keys = content[: 2 * _FINGERPRINT_BYTES], content[2 * _FINGERPRINT_BYTES :]
        if marks != _fingerprint(query) + _fingerprint(user_id):
            raise CursorMismatchError
        return [str(key) for key in json.loads(keys)]

    def _mac(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, "sha256")[:_SEAL_BYTES]


def _fingerprint(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:_FINGERPRINT_BYTES]
