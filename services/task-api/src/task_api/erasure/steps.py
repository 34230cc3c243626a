"""What this service holds of a user, step by step: the one list that a feature adds itself to."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from task_api.engagements.service import EngagementService

EraseSome = Callable[[AsyncSession, str, int], Awaitable[int]]
"""Deletes so many rows of a user at most, in the session's transaction; gives how many there were."""


@dataclass(frozen=True)
class ErasureStep:
    """One kind of thing that belongs to a user.

    Attributes:
        name: For logs.
        erase_some: Is called until it gives 0; finds nothing to do when it is called again.
        at_once: Whether it happens with the request, not at the end: what opens doors without the user's token.
            What such a step deletes it must delete in one call.
    """

    name: str
    erase_some: EraseSome
    at_once: bool = False


def rows(table: str, condition: str) -> EraseSome:
    """Make a step's work of a condition on a table's rows, in which the user is `:subject`."""
    statement = text(
        f"DELETE FROM {table} WHERE ctid = ANY (ARRAY("  # noqa: S608 (both are literals of ours)
        f"SELECT ctid FROM {table} WHERE {condition} LIMIT :limit))"
    )

    async def erase_some(session: AsyncSession, subject: str, limit: int) -> int:
        connection = await session.connection()
        return (await connection.execute(statement, {"subject": subject, "limit": limit})).rowcount

    return erase_some


async def _leave_engagements(session: AsyncSession, subject: str, _: int) -> int:
    return await EngagementService.forget_user(session, subject)


_OF_OWN_TASKS: Final = "task_id IN (SELECT id FROM tasks WHERE owner_id = :subject)"
_OF_OWN_KEYS: Final = "key_id IN (SELECT id FROM api_keys WHERE owner_id = :subject)"
_LEAF: Final = "owner_id = :subject AND NOT EXISTS (SELECT FROM tasks AS below WHERE below.parent_id = tasks.id)"

STEPS: Final = (
    ErasureStep("calendar_feeds", rows("calendar_feeds", "owner_id = :subject"), at_once=True),
    ErasureStep("engagements", _leave_engagements, at_once=True),
    ErasureStep("api_key_secrets", rows("api_key_secrets", _OF_OWN_KEYS), at_once=True),
    ErasureStep("api_keys", rows("api_keys", "owner_id = :subject")),
    ErasureStep("comments_written", rows("comments", "author_id = :subject")),
    ErasureStep("comments_received", rows("comments", _OF_OWN_TASKS)),
    ErasureStep("completions", rows("completions", "owner_id = :subject")),
    ErasureStep("import_rows", rows("import_rows", _OF_OWN_TASKS)),
    ErasureStep("tasks", rows("tasks", _LEAF)),
    ErasureStep("idempotency_keys", rows("idempotency_keys", "owner_id = :subject")),
    ErasureStep("profile", rows("profiles", "user_id = :subject")),
)
"""In this order: what belongs to tasks goes before them."""
