"""Pages of a list: `{"items": […], "next_cursor": …}`, with `total` when asked for.

A cursor is opaque to callers. It holds the position after the last item (keyset pagination), so items that
come or go meanwhile neither repeat nor hide others.
"""

import base64
import binascii
import json
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer

from chassis.errors import FieldProblem, InvalidInputError

Item = TypeVar("Item")
MAX_CURSOR_CHARS = 200
MAX_BIGINT = 2**63 - 1
CursorParameter = Annotated[
    str | None, Query(max_length=MAX_CURSOR_CHARS, description="`next_cursor` of the page before")
]


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next_cursor: Annotated[str | None, Field(description="pass as `cursor` for the next page; null on the last")]
    total: Annotated[int | None, Field(description="all items that match; only when asked for")] = None

    @model_serializer(mode="wrap")
    def _without_unasked_total(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        if self.total is None:
            fields.pop("total", None)
        return fields


def encode_cursor(position: int) -> str:
    """Make the cursor for the items after `position`."""
    return base64.urlsafe_b64encode(json.dumps({"after": position}).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> int | None:
    """Give the position in a cursor, or None when there is no cursor.

    Raises:
        InvalidInputError: The text is not a cursor of ours.
    """
    if cursor is None:
        return None
    try:
        position = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))["after"]
    except (binascii.Error, ValueError, TypeError, KeyError):
        position = None
    if type(position) is not int or not 0 <= position <= MAX_BIGINT:
        message = "is not a cursor that this list returned"
        raise InvalidInputError(f"cursor {message}", errors=[FieldProblem(field="query.cursor", message=message)])
    return position
