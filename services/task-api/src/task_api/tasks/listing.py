"""Which tasks a list shows, and the statements for it.

Every list starts from an owner, so an index that begins with the owner serves it: of the due dates, of the open
tasks by urgency, and so on; words and tags have one GIN index in which each stands behind a mark of its owner.
"""

import hashlib
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import (
    ColumnElement,
    Text,
    and_,
    bindparam,
    cast,
    false,
    func,
    literal_column,
    not_,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY, TSVECTOR
from sqlmodel import col, select
from sqlmodel.sql.expression import Select, SelectOfScalar

from task_api.tasks.models import DUE_OR_NEVER, OWNED_WORDS, OWNER_MARK_CHARS, PUNCTUATION, Priority, Task
from task_api.tasks.sorting import Order, Sort, SortKey

TagMatch = Literal["all", "any"]
_SPACES: Final = str.maketrans(dict.fromkeys(PUNCTUATION, " "))
_SEARCH: Final[ColumnElement[str]] = literal_column("tasks.search", TSVECTOR())
_OWNED_WORDS: Final[ColumnElement[str]] = literal_column(OWNED_WORDS, TSVECTOR())
_NEWEST_FIRST: Final = (Sort(SortKey.CREATED_AT, descending=True),)
_BEST_FIRST: Final = (Sort(SortKey.RELEVANCE, descending=True),)


@dataclass(frozen=True)
class TaskFilter:
    """Which tasks; what is None, or empty, does not matter.

    Attributes:
        engagement_id: Of this engagement; None: one's own.
        due_after: Due at this moment or later.
        due_before: Due before this moment.
        overdue: Open and due before now; False: all others.
        updated_since: Changed at this moment or later.
        q: Words that all begin a word of title, description or tags.
        parent_id: Subtasks of this task.
        top_level: Not a subtask; False: only subtasks.
    """

    engagement_id: int | None = None
    completed: bool | None = None
    priority: tuple[Priority, ...] = ()
    due_after: datetime | None = None
    due_before: datetime | None = None
    overdue: bool | None = None
    updated_since: datetime | None = None
    q: str | None = None
    tags: tuple[str, ...] = ()
    tag_match: TagMatch = "all"
    parent_id: int | None = None
    top_level: bool | None = None


@dataclass(frozen=True)
class TaskListing:
    """A filter, an order and which part of it."""

    matching: TaskFilter = field(default_factory=TaskFilter)
    sort: tuple[Sort, ...] = ()
    limit: int = 50
    offset: int = 0
    cursor: str | None = None
    total: bool = False

    @property
    def order(self) -> tuple[Sort, ...]:
        """The order asked for, or the usual one: best match first, without words to search newest first."""
        return self.sort or (_BEST_FIRST if self.matching.q is not None else _NEWEST_FIRST)

    def query(self) -> str:
        """Give filters and order in one normal form; a cursor is bound to it, but not to the size of pages."""
        values = {name: value for name, value in asdict(self.matching).items() if value not in (None, ())}
        for name in ("priority", "tags"):
            if name in values:
                values[name] = sorted(values[name])
        return repr((sorted(values.items()), [str(sort) for sort in self.order]))


def page_statement(
    owner_id: str, wanted: TaskListing, *, after: list[str] | None, now: datetime
) -> Select[tuple[Any, ...]]:
    """Select a page and one task more, each with the keys that its cursor is made of."""
    order = Order(wanted.order, _relevance(wanted.matching.q))
    statement = Select[tuple[Any, ...]](Task, *order.keys()).where(_matches(owner_id, wanted.matching, now))
    if after is not None:
        statement = statement.where(order.after(after))
    return statement.order_by(*order.clauses()).offset(wanted.offset).limit(wanted.limit + 1)


def count_statement(owner_id: str, matching: TaskFilter, *, now: datetime) -> SelectOfScalar[int]:
    """Count all that match."""
    return select(func.count()).select_from(Task).where(_matches(owner_id, matching, now))


def keys_of(row: tuple[Any, ...]) -> list[str]:
    """Give the sort keys that `page_statement` selected beside a task."""
    return [str(key) for key in row[1:]]


def _matches(owner_id: str, wanted: TaskFilter, now: datetime) -> ColumnElement[bool]:
    due: ColumnElement[datetime] = literal_column(DUE_OR_NEVER)
    conditions: list[ColumnElement[bool]] = [col(Task.owner_id) == owner_id, col(Task.deleted_at).is_(None)]
    if wanted.completed is not None:
        conditions.append(col(Task.completed).is_(wanted.completed))
    if wanted.priority:
        conditions.append(col(Task.priority).in_(wanted.priority))
    if wanted.due_after is not None:
        conditions += [due >= wanted.due_after, col(Task.due_at).is_not(None)]
    if wanted.due_before is not None:
        conditions.append(due < wanted.due_before)
    if wanted.overdue is not None:
        overdue = and_(col(Task.completed).is_(False), due < now)
        conditions.append(overdue if wanted.overdue else not_(overdue))
    if wanted.updated_since is not None:
        conditions.append(col(Task.updated_at) >= wanted.updated_since)
    if wanted.parent_id is not None:
        conditions.append(col(Task.parent_id) == wanted.parent_id)
    if wanted.top_level is not None:
        conditions.append(col(Task.parent_id).is_(None) if wanted.top_level else col(Task.parent_id).is_not(None))
    conditions += _words_and_tags(owner_id, wanted)
    return and_(*conditions)


def _words_and_tags(owner_id: str, wanted: TaskFilter) -> list[ColumnElement[bool]]:
    """Ask the GIN index for the owner's words and tags. It may give too much, so they are looked at once more."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.tags:
        both = wanted.tag_match == "all"
        tags = cast(bindparam(None, list(wanted.tags), type_=ARRAY(Text())), ARRAY(Text()))
        conditions.append(col(Task.tags).op("@>" if both else "&&", is_comparison=True)(tags))
        mark = hashlib.md5(owner_id.encode(), usedforsecurity=False).hexdigest()[:OWNER_MARK_CHARS]
        conditions.append(_owned(_exactly((" & " if both else " | ").join(_quoted(mark + tag) for tag in wanted.tags))))
    if wanted.q is not None:
        if not split_words(wanted.q):
            return [false()]
        words = cast(bindparam(None, split_words(wanted.q), type_=ARRAY(Text())), ARRAY(Text()))
        conditions.append(_owned(func.task_words_query(cast(owner_id, Text()), words)))
        conditions.append(_SEARCH.op("@@", is_comparison=True)(_words(wanted.q)))
    return conditions


def split_words(text: str) -> list[str]:
    """Give the words of a text as they are searched for."""
    return text.translate(_SPACES).split()


def _words(text: str) -> ColumnElement[str]:
    """Make the query for words that each begin with a word of the text. No punctuation is left: no operators."""
    words = " & ".join(f"'{word}':*" for word in split_words(text))
    return func.to_tsquery(literal_column("'simple'::regconfig"), bindparam(None, words, type_=Text()))


def _relevance(text: str | None) -> ColumnElement[float] | None:
    return None if text is None else func.ts_rank(_SEARCH, _words(text))


def _owned(query: ColumnElement[Any]) -> ColumnElement[bool]:
    return _OWNED_WORDS.op("@@", is_comparison=True)(query)


def _exactly(query: str) -> ColumnElement[str]:
    """Take lexemes as they are: no parser, which would split a tag of two words."""
    return cast(cast(bindparam(None, query, type_=Text()), Text()), TSQUERY())


def _quoted(lexeme: str) -> str:
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"
