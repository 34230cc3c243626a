"""How a list of tasks may be sorted, and the same in SQL: by several keys, each list continued from any item.

Every order ends with the id, so it is total: a cursor names one place in it, whatever is inserted meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any, Final

from sqlalchemy import ColumnElement, Text, and_, bindparam, cast, literal_column, or_, tuple_
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import REAL, BigInteger, Integer, TypeEngine
from typing_extensions import override

from task_api.tasks.models import DUE_OR_NEVER, TITLE_WITHOUT_CASE, URGENCY

MAX_SORT_KEYS: Final = 4


class SortKey(StrEnum):
    """What `sort` may name."""

    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    DUE_AT = "due_at"
    PRIORITY = "priority"
    TITLE = "title"
    POSITION = "position"
    RELEVANCE = "relevance"


@dataclass(frozen=True)
class Sort:
    """One key of an order; priority and relevance grow with what matters more."""

    key: SortKey
    descending: bool = False

    @override
    def __str__(self) -> str:
        return f"{'-' * self.descending}{self.key}"


def parse_sort(text: str) -> tuple[Sort, ...]:
    """Read e.g. `-priority,due_at`.

    Raises:
        ValueError: With words for the caller.
    """
    names = text.split(",")
    if len(names) > MAX_SORT_KEYS:
        raise ValueError(f"may name at most {MAX_SORT_KEYS} keys")
    sorts = []
    for name in names:
        key = name.strip().removeprefix("-")
        if key not in list(SortKey):
            raise ValueError(f"may name {', '.join(SortKey)}, each with - before it for descending")
        sorts.append(Sort(SortKey(key), descending=name.strip().startswith("-")))
    if len({sort.key for sort in sorts}) < len(sorts):
        raise ValueError("must not name a key twice")
    return tuple(sorts)


@dataclass(frozen=True)
class _Column:
    """An expression that is never null, with the direction it is walked in."""

    expression: ColumnElement[Any]
    kind: TypeEngine[Any]
    descending: bool

    def after(self, text: str) -> ColumnElement[Any]:
        # Through text, because that is exact for every type, infinity among them.
        return cast(cast(bindparam(None, text, type_=Text()), Text()), self.kind)


class Order:
    """An order of tasks in SQL.

    Args:
        sorts: The keys as the caller named them, one at least.
        relevance: The rank of a task for the text that was searched.
    """

    def __init__(self, sorts: Sequence[Sort], relevance: ColumnElement[float] | None = None) -> None:
        columns = [_column(sort, relevance) for sort in sorts]
        # In the direction of the key before it: then one walk through an index gives the order.
        columns.append(_Column(literal_column("tasks.id"), BigInteger(), columns[-1].descending))
        self._columns = columns

    def keys(self) -> list[ColumnElement[str]]:
        """Give what a statement selects so that a cursor can be made of a row."""
        return [cast(column.expression, Text()).label(f"key_{at}") for at, column in enumerate(self._columns)]

    def clauses(self) -> list[ColumnElement[Any]]:
        """Give the ORDER BY."""
        return [column.expression.desc() if column.descending else column.expression for column in self._columns]

    def after(self, keys: Sequence[str]) -> ColumnElement[bool]:
        """Give the condition for what comes after the row that had these keys.

        Neighbouring keys of one direction are compared as one row, which PostgreSQL turns into the place in an
        index where the scan begins; mixed directions need a nested condition, below a bound on the first part.
        """
        pairs = list(zip(self._columns, keys, strict=True))
        runs = [(descending, list(run)) for descending, run in groupby(pairs, key=lambda pair: pair[0].descending)]
        condition: ColumnElement[bool] | None = None
        for descending, run in reversed(runs):
            here = tuple_(*(column.expression for column, _ in run))
            there = tuple_(*(column.after(key) for column, key in run))
            beyond = here < there if descending else here > there
            if condition is None:
                condition = beyond
            else:
                bound = here <= there if descending else here >= there
                condition = and_(bound, or_(beyond, condition))
        if condition is None:
            raise ValueError("an order has at least one column")
        return condition


def _column(sort: Sort, relevance: ColumnElement[float] | None) -> _Column:
    if sort.key is SortKey.RELEVANCE:
        if relevance is None:
            raise ValueError("there is no relevance without a text to search")
        return _Column(relevance, REAL(), sort.descending)
    sql, kind = _COLUMNS[sort.key]
    return _Column(literal_column(sql), kind, sort.descending != (sort.key is SortKey.PRIORITY))


_COLUMNS: Final[dict[SortKey, tuple[str, TypeEngine[Any]]]] = {
    # Not the id, though it grows alike: for an owner of many tasks PostgreSQL would walk through everybody's by id.
    SortKey.CREATED_AT: ("tasks.created_at", TIMESTAMP(timezone=True)),
    SortKey.UPDATED_AT: ("tasks.updated_at", TIMESTAMP(timezone=True)),
    SortKey.DUE_AT: (DUE_OR_NEVER, TIMESTAMP(timezone=True)),
    SortKey.PRIORITY: (URGENCY, Integer()),
    SortKey.TITLE: (TITLE_WITHOUT_CASE, Text()),
    SortKey.POSITION: ("tasks.position", Text()),
}
