"""The rules of the trail: exactly one entry for every committed change of a task, all in one chain."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime

from prometheus_client import Counter
from sqlmodel.ext.asyncio.session import AsyncSession

from audit_worker.trail.auth import reads_all, visible_owner
from audit_worker.trail.chain import Head, actor_hash, content_hash, entry_hash, exact_object, new_salt
from audit_worker.trail.members import Members
from audit_worker.trail.models import AuditEntry, NewEntry
from audit_worker.trail.repository import TrailRepository, Which
from chassis.database import Database
from chassis.erased_subjects import ErasedSubjects
from chassis.identity import ERASED, Principal
from chassis.inbox import ReceivedEvent, Verdict
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
    engagement_id: int | None
    limit: int
    cursor: str | None
    total: bool


class Recorder:
    """Writes the trail.

    Args:
        erased: Of whom an entry says nothing.
    """

    def __init__(self, erased: ErasedSubjects) -> None:
        self._erased = erased

    async def record(self, session: AsyncSession, received: Sequence[ReceivedEvent]) -> None:
        """Append the entries of events that were not seen before, in their order; the caller commits.

        A stale event gets its entry too: it tells of a change that was committed, and it is only late.
        """
        trail = TrailRepository(session)
        await _report_conflicts(trail, received)
        head, now = await trail.lock_head()
        # Under the lock, which the erasure takes too: either it waits for us and finds our entries, or we see it.
        data = [item.event.data for item in received]
        erased = await self._erased.among(session, {person for d in data for person in (d.task.owner_id, d.actor.id)})
        entries = []
        for item in received:
            entry = _entry_of(item.event, head, now)
            head = Head(entry.sequence, entry.hash)
            entries.append(_without(erased, entry))
        await trail.append(entries, head)


def _without(erased: AbstractSet[str], entry: NewEntry) -> NewEntry:
    """Take the erased out of an entry that is chained already: its digest stays, and nobody has its salt."""
    actor_salt = None if entry.actor_salt is None else ""
    if entry.owner_id in erased:
        gone = replace(entry, owner_id=ERASED, actor=ERASED, changes={}, task={}, corr_id="", salt="")
    elif entry.actor in erased:
        gone = replace(entry, actor=ERASED)
    else:
        return entry
    return replace(gone, actor_salt=actor_salt, erased_at=entry.recorded_at)


class TrailData:
    """What the trail holds of users, for their erasure."""

    async def hold(self, session: AsyncSession) -> None:
        """Wait for those who are appending, and have all others wait."""
        await TrailRepository(session).lock_head()

    async def erase_some(self, session: AsyncSession, subject: str, *, limit: int) -> int:
        """Take a user out of so many entries at most; gives how many there were."""
        return await TrailRepository(session).erase_some(subject, limit=limit)


async def _report_conflicts(trail: TrailRepository, received: Sequence[ReceivedEvent]) -> None:
    """Say where two events claim one version of a task; both are evidence, and both are kept."""
    late = [_version_of(item.event) for item in received if item.receipt.verdict is Verdict.STALE]
    if not late:
        return
    taken = await trail.versions_taken(late)
    for item in received:
        version = _version_of(item.event)
        if version in taken:
            _conflicts.inc()
            _logger.error("two events for one version", event_id=item.event.id, task_id=version[0], version=version[1])
        taken.add(version)


def _version_of(event: TaskEvent) -> tuple[int, int]:
    return event.data.task.id, event.data.task.version


def _entry_of(event: TaskEvent, head: Head, now: datetime) -> NewEntry:
    data = event.data
    entry = NewEntry(
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
        salt=new_salt(),
        content_hash="",
        prev_hash=head.hash,
        hash="",
    )
    if entry.actor != entry.owner_id:
        entry.actor_salt = new_salt()
        entry.actor_hash = actor_hash(entry)
    entry.content_hash = content_hash(entry)
    entry.hash = entry_hash(entry)
    return entry


async def list_entries(user: Principal, database: Database, members: Members, wanted: EntryFilter) -> Page[AuditEntry]:
    """Give a page of the entries the user may see, in the order of the chain.

    Appends commit one after the other, so nothing ever appears before an entry that was already given out.

    Raises:
        InvalidInputError: The cursor is none of ours.
        EngagementForbiddenError: Not a member of the engagement.
        EngagementNotFoundError: No such engagement.
        MembershipUnknownError: Nobody can say right now who is a member.
    """
    after = decode_cursor(wanted.cursor)
    until = await _end_for_a_member(user, database, members, wanted.engagement_id)
    which = Which(visible_owner(user, wanted.engagement_id), wanted.task_id, until)
    async with database.session() as session:
        trail = TrailRepository(session)
        found = await trail.page(which, after=after, limit=wanted.limit + 1)
        total = await trail.count(which) if wanted.total else None
    return cut_page(found, limit=wanted.limit, position=lambda entry: entry.sequence, total=total)


async def _end_for_a_member(
    user: Principal, database: Database, members: Members, engagement_id: int | None
) -> int | None:
    """Let a member read an engagement up to an entry; None where nobody needs to be asked.

    The end comes before the question: an entry that is recorded while it is asked may be of a change after a removal.
    No connection is held meanwhile, or a task-api that says nothing would keep events from being recorded.
    """
    if engagement_id is None or reads_all(user):
        return None
    async with database.session() as session:
        head = await TrailRepository(session).head()
    await members.check_may_read(user.id, engagement_id)
    return head.sequence
