"""Pages of a list: `{"items": […], "next_cursor": …}`, with `total` when asked for.

A cursor is opaque to callers. It holds the position after the last item (keyset pagination), so items that
come or go meanwhile neither repeat nor hide others.
"""

import base64
import binascii
import json
from collections.abc import Callable
from typing import Annotated, Final, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field
from pydantic.config import JsonDict
from pydantic.json_schema import SkipJsonSchema

from chassis.errors import FieldProblem, InvalidInputError

Item = TypeVar("Item")
Other = TypeVar("Other")
MAX_CURSOR_CHARS = 200
MAX_BIGINT = 2**63 - 1
_A_CURSOR: Final = "eyJhZnRlciI6IDd9"
CursorParameter = Annotated[
    str | None,
    Query(max_length=MAX_CURSOR_CHARS, description="`next_cursor` of the page before", examples=[_A_CURSOR]),
]


def _was_not_asked_for(total: int | None) -> bool:
    return total is None


def _without_default(schema: JsonDict) -> None:
    schema.pop("default", None)


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next_cursor: Annotated[
        str | None, Field(description="pass as `cursor` for the next page; null on the last", examples=[_A_CURSOR])
    ]
    total: Annotated[
        int | SkipJsonSchema[None],
        Field(
            description="all items that match; only when asked for",
            examples=[1],
            exclude_if=_was_not_asked_for,
            json_schema_extra=_without_default,
        ),
    ] = None

    def map(self, show: Callable[[Item], Other]) -> "Page[Other]":
        """Give the same page with each item shown in another way."""
        return Page(items=[show(item) for item in self.items], next_cursor=self.next_cursor, total=self.total)


def cut_page(
    found: list[Item], *, limit: int, position: Callable[[Item], int | None], total: int | None = None
) -> Page[Item]:
    """Make a page of what a query found.

    Args:
        found: Asked for with a limit of `limit + 1`: the one more tells whether there is a next page.
        limit: Items on the page.
        position: Of an item in the order of the list; the cursor is made of the last one's.
        total: When it was asked for.
    """
    items, more = found[:limit], len(found) > limit
    return Page(items=items, next_cursor=encode_cursor(position(items[-1]) or 0) if more else None, total=total)


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
