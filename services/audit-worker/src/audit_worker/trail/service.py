"""The rules of the trail: exactly one entry for every committed change of a task, all in one chain."""

from dataclasses import dataclass

from prometheus_client import Counter
from sqlmodel.ext.asyncio.session import AsyncSession

from audit_worker.trail.auth import visible_owner
from audit_worker.trail.chain import entry_hash, exact_object
from audit_worker.trail.models import AuditEntry
from audit_worker.trail.repository import TrailRepository
from chassis.identity import Principal
from chassis.inbox import Receipt, Verdict
from chassis.logging import get_logger
from chassis.pagination import Page, cut_page, decode_cursor
from task_events import TaskEvent

_conflicts = Counter(
    "taskwire_audit_version_conflicts_total", "Entries whose task version was already taken by another event"
)
_logger = get_logger(__name__)


@dataclass(frozen=True)
class EntryFilter:
    """Which of the entries one may see to list."""

    task_id: int | None
    limit: int
    cursor: str | None
    total: bool


async def record_event(session: AsyncSession, event: TaskEvent, receipt: Receipt) -> None:
    """Append the entry of an event that was not seen before; the caller commits.

    A stale event gets its entry too: it tells of a change that was committed, and it is only late.
    """
    trail = TrailRepository(session)
    task = event.data.task
    if receipt.verdict is Verdict.STALE and await trail.has_version(task.id, task.version):
        _conflicts.inc()
        _logger.error("two events for one version", event_id=event.id, task_id=task.id, version=task.version)
    await _append(trail, event)


async def _append(trail: TrailRepository, event: TaskEvent) -> None:
    data = event.data
    head, now = await trail.lock_head()
    entry = AuditEntry(
        sequence=head.sequence + 1,
        event_id=event.id,
        type=event.type.value,
        task_id=data.task.id,
        task_version=data.task.version,
        owner_id=data.task.owner_id,
        actor=data.actor.id,
        changes=exact_object({name: change.model_dump() for name, change in data.changes.items()}),
        task=exact_object(data.task.model_dump(mode="json")),
        occurred_at=data.occurred_at,
        corr_id=data.corr_id,
        recorded_at=now,
        prev_hash=head.hash,
        hash="",
    )
    entry.hash = entry_hash(entry)
    await trail.append(entry)


async def list_entries(user: Principal, session: AsyncSession, wanted: EntryFilter) -> Page[AuditEntry]:
    """Give a page of the entries the user may see, in the order of the chain.

    Appends commit one after the other, so nothing ever appears before an entry that was already given out.

    Raises:
        InvalidInputError: The cursor is none of ours.
    """
    trail = TrailRepository(session)
    owner_id = visible_owner(user)
    found = await trail.page(
        owner_id=owner_id,
        task_id=wanted.task_id,
        after=decode_cursor(wanted.cursor),
        limit=wanted.limit + 1,
    )
    total = await trail.count(owner_id=owner_id, task_id=wanted.task_id) if wanted.total else None
    return cut_page(found, limit=wanted.limit, position=lambda entry: entry.sequence, total=total)
