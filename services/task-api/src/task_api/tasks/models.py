"""The `tasks` table."""

from datetime import datetime
from typing import Any, ClassVar, Final, Literal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Text,
    TextClause,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlmodel import Field

from task_api.engagements.spaces import engagement_of
from task_api.models import Model
from task_events import TaskSnapshot

Priority = Literal["high", "medium", "low"]
_TIMESTAMP = DateTime(timezone=True)

# What lists are sorted by and indexes are made of. An index serves only the very expression it was made with, and
# only without bind parameters in it; hence text. Neither is ever null, so that a cursor can compare with `>`.
URGENCY: Final = "array_position(ARRAY['high', 'medium', 'low'], priority)"
"""Smaller is more urgent: "urgent first, then by due date" goes one way, which one index and one comparison serve."""
DUE_OR_NEVER: Final = "coalesce(due_at, 'infinity'::timestamptz)"
TITLE_WITHOUT_CASE: Final = "lower(title)"
OWNED_WORDS: Final = "task_words(owner_id, search)"
"""The lexemes of `search`, each behind the mark of its owner: an index of them holds every owner's words in a place of
their own, so looking for what begins with a letter goes through no one else's. Revision 0008 has the function."""
OWNER_MARK_CHARS: Final = 8
"""Of the MD5 of an owner's id. Two owners with one mark cost each other time and nothing else: `owner_id` decides."""

# ASCII and common typographic punctuation become spaces before PostgreSQL looks for words: else its parser takes
# "see a.example/b" for one host name and "state-of-the-art" for something special, and queries would have to know.
_DESCRIPTION: Final = "coalesce(description, '')"
PUNCTUATION: Final = (
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    "\u201c\u201d\u2018\u2019\u201e\u00ab\u00bb\u2013\u2014\u2026\u00b7\u2022\u3001\u3002"
    "\uff0c\uff01\uff1f\uff1a\uff1b\uff08\uff09\u300c\u300d\u061f\u060c\u05f3\u05f4"
)


def _words(column: str) -> str:
    quoted, spaces = PUNCTUATION.replace("'", "''"), " " * len(PUNCTUATION)
    return f"to_tsvector('simple'::regconfig, translate({column}, '{quoted}', '{spaces}'))"


SEARCH: Final = (
    f"setweight({_words('title')}, 'A') || setweight({_words(_DESCRIPTION)}, 'C')"
    " || array_to_tsvector(tags) || array_to_tsvector(ARRAY[chr(1) || md5(owner_id)])"
)
"""Words of title and description, and tags; and the owner, for replicas of a release before revision 0008."""
_POSITION_NOW: Final = "lpad(to_hex((extract(epoch FROM now()) * 1000000)::bigint), 14, '0')"


_OPEN: Final = "completed IS false"


def _alive(*more: str) -> TextClause:
    return text(" AND ".join(("deleted_at IS NULL", *more)))


class Task(Model, table=True):
    """One task. `version` grows by one with every change and is the version its event carries."""

    __tablename__ = "tasks"
    __table_args__ = (
        Column("search", TSVECTOR, Computed(SEARCH, persisted=True), nullable=False),
        CheckConstraint("priority IN ('high', 'medium', 'low')", name="priority"),
        CheckConstraint("completed = (completed_at IS NOT NULL)", name="completed_at"),
        CheckConstraint("version >= 1", name="version"),
        # One's own tasks, newest first, and their count.
        Index("tasks_owner_id_created_at_idx", "owner_id", "created_at", "id", postgresql_where=_alive()),
        # By due date: all tasks (a calendar), and open ones (what is next, what is overdue).
        Index("tasks_owner_id_due_idx", "owner_id", text(DUE_OR_NEVER), "id", postgresql_where=_alive()),
        Index("tasks_open_due_idx", "owner_id", text(DUE_OR_NEVER), "id", postgresql_where=_alive(_OPEN)),
        Index("tasks_open_urgency_idx", "owner_id", text(URGENCY), text(DUE_OR_NEVER), "id",
              postgresql_where=_alive(_OPEN)),
        Index("tasks_owner_id_updated_at_idx", "owner_id", "updated_at", "id", postgresql_where=_alive()),
        Index("tasks_owner_id_position_idx", "owner_id", "position", "id", postgresql_where=_alive()),
        Index("tasks_owner_id_title_idx", "owner_id", text(TITLE_WITHOUT_CASE), "id", postgresql_where=_alive()),
        Index("tasks_parent_id_idx", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
        # Without a list of pending entries, which every search would go through, whoever's they are. Of deleted tasks
        # too, as PostgreSQL does not estimate by the statistics of a partial index.
        Index("tasks_words_idx", text(OWNED_WORDS), postgresql_using="gin", postgresql_with={"fastupdate": "off"}),
        # Serves the feed of changes, deleted tasks included.
        Index("tasks_owner_id_changed_xid_id_idx", "owner_id", "changed_xid", "id"),
        # Serves the purge.
        Index("tasks_deleted_at_idx", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )  # fmt: skip
    __mapper_args__: ClassVar[dict[str, Any]] = {"exclude_properties": {"search"}}  # for WHERE, never fetched

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    owner_id: str = Field(sa_column=Column(Text, nullable=False))
    title: str = Field(sa_column=Column(Text, nullable=False))
    description: str | None = Field(default=None, sa_column=Column(Text))
    priority: str = Field(sa_column=Column(Text, nullable=False))
    due_at: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))
    completed: bool = Field(default=False, nullable=False)
    completed_at: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))
    tags: list[str] = Field(
        default_factory=list, sa_column=Column(ARRAY(Text), nullable=False, server_default=text("'{}'"))
    )
    position: str = Field(
        sa_column=Column(Text(collation="C"), nullable=False, server_default=text(_POSITION_NOW)),
    )
    parent_id: int | None = Field(default=None, sa_column=Column(BigInteger, ForeignKey("tasks.id")))
    recurrence: dict[str, str] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    # The first of the tasks that recurred from each other up to this one; None: this one is. No foreign key, as that
    # may have been purged.
    series_id: int | None = Field(default=None, sa_column=Column(BigInteger))
    version: int = Field(default=1, nullable=False)
    created_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
    updated_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
    deleted_at: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))
    # The transaction of the last change. A trigger sets it, so no statement can forget to; nobody else writes it.
    changed_xid: int | None = Field(
        default=None, sa_column=Column(BigInteger, nullable=False, server_default=text("0"))
    )

    def snapshot(self) -> TaskSnapshot:
        """Give the task as events show it; only once it has an id."""
        return TaskSnapshot.model_validate(self.model_dump() | {"engagement_id": self.engagement_id})

    @property
    def engagement_id(self) -> int | None:
        """The engagement that the task is in; None for a personal one."""
        return engagement_of(self.owner_id)
