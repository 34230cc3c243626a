"""All SQL about what an export of an account has besides the profile."""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

_TASKS: Final = (
    "id, title, description, priority, due_at, completed, completed_at, tags, position, parent_id, recurrence,"
    " series_id, version, created_at, updated_at, deleted_at"
)
# What of a key is its secret, or a hash of it, is in another table.
_KEYS: Final = (
    "id, name, scopes, prefix, last_characters, created_at, expires_at, rotated_at, overlap_ends_at, last_used_at,"
    " revoked_at"
)
_MEMBERSHIPS: Final = (
    "(SELECT member.engagement_id AS id, member.user_id, engagement.name, member.role, member.joined_at"
    " FROM engagement_members AS member JOIN engagements AS engagement ON engagement.id = member.engagement_id) AS m"
)
# Name in the document → table, whose rows are whose, and what of them is told. Of feeds no token is stored.
_SOURCES: Final = {
    "tasks": ("tasks", "owner_id", _TASKS),
    "comments": ("comments", "author_id", "id, task_id, body, version, created_at, edited_at"),
    "completions": ("completions", "owner_id", "id, task_id, series_id, title, completed_at, reopened_at"),
    "calendar_feeds": ("calendar_feeds", "owner_id", "id, name, created_at, token_created_at"),
    "engagements": (_MEMBERSHIPS, "user_id", "id, name, role, joined_at"),
    "api_keys": ("api_keys", "owner_id", _KEYS),
}
PARTS: Final = tuple(_SOURCES)


class AccountRepository:
    """What belongs to one user, in one session's transaction."""

    def __init__(self, session: AsyncSession, user_id: str) -> None:
        self._session, self._user_id = session, user_id

    async def ids(self, part: str) -> "array[int]":
        """Give the ids of all there are of one part, ascending: eight bytes for each."""
        table, column, _ = _SOURCES[part]
        statement = text(f"SELECT id FROM {table} WHERE {column} = :user_id ORDER BY id")  # noqa: S608 (literals)
        rows = await (await self._session.connection()).scalars(statement, {"user_id": self._user_id})
        return array("q", rows)

    async def read(self, part: str, ids: Sequence[int]) -> list[Mapping[str, Any]]:
        """Give some of them as they are now, those that are still there."""
        table, column, columns = _SOURCES[part]
        statement = text(
            f"SELECT {columns} FROM {table} WHERE id = ANY(:ids) AND {column} = :user_id ORDER BY id"  # noqa: S608
        )
        rows = await (await self._session.connection()).execute(statement, {"ids": list(ids), "user_id": self._user_id})
        return [dict(row._mapping) for row in rows]  # noqa: SLF001  (the documented way to read a row by names)
