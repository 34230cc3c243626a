"""What the trail is missing, for those who may know."""

from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from audit_worker.gaps.models import StoredGap
from audit_worker.gaps.repository import GapRepository
from chassis.pagination import Page, cut_page, decode_cursor


@dataclass(frozen=True)
class GapFilter:
    """Which gaps to list."""

    task_id: int | None
    is_open: bool | None
    limit: int
    cursor: str | None
    total: bool


async def list_gaps(session: AsyncSession, wanted: GapFilter) -> Page[StoredGap]:
    """Give a page of gaps, oldest first.

    Raises:
        InvalidInputError: The cursor is none of ours.
    """
    gaps = GapRepository(session)
    found = await gaps.page(
        task_id=wanted.task_id,
        is_open=wanted.is_open,
        after=decode_cursor(wanted.cursor),
        limit=wanted.limit + 1,
    )
    total = await gaps.count(task_id=wanted.task_id, is_open=wanted.is_open) if wanted.total else None
    return cut_page(found, limit=wanted.limit, position=lambda gap: gap.id, total=total)
