"""The rules of an erasure as its user sees it: asked for once, confirmed by each service, shown for ever."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.correlation import current_corr_id, new_id
from chassis.database import Database
from chassis.erased_subjects import ErasedSubjects
from chassis.errors import FieldProblem, ForbiddenError, InvalidInputError, NotFoundError
from chassis.identity import Principal
from chassis.logging import get_logger
from chassis.tracing import current_traceparent
from task_api.engagements.service import EngagementService
from task_api.erasure.gate import ErasedGate
from task_api.erasure.models import AccountErasure
from task_api.erasure.repository import ErasureRepository
from task_api.erasure.steps import STEPS
from task_api.outbox.service import Outbox
from task_events import AccountEventType, ErasureConfirmed, ErasureRequested, ErasureRequestedData

CONSUMERS: Final = ("audit-worker", "notifier")
"""Who must confirm before this service erases what it holds."""
OURSELVES: Final = "task-api"
_ALL: Final = 100_000
_logger = get_logger(__name__)


class ErasureNotFoundError(NotFoundError):
    """There is no such erasure."""

    code = "erasure_not_found"


class ErasureForbiddenError(ForbiddenError):
    """The erasure is someone else's."""

    code = "erasure_forbidden"


class NotConfirmedError(InvalidInputError):
    """The body does not name the caller."""

    code = "erasure_not_confirmed"


@dataclass(frozen=True)
class ErasureStatus:
    """How far an erasure is.

    Attributes:
        services: Each service, and since when it holds nothing any more.
    """

    erasure: AccountErasure
    services: Mapping[str, datetime | None]


class Erasures:
    """Begins erasures, and tells how far they are."""

    def __init__(
        self, outbox: Outbox, subjects: ErasedSubjects, gate: ErasedGate, engagements: EngagementService
    ) -> None:
        self._outbox, self._subjects, self._gate, self._engagements = outbox, subjects, gate, engagements

    async def request(self, user: Principal, session: AsyncSession, confirm: str) -> ErasureStatus:
        """Begin to erase the caller, or give the erasure that has begun.

        The request, its event and the end of what opens doors without a token are one transaction.

        Raises:
            NotConfirmedError: The caller did not name themselves.
        """
        if confirm != user.id:
            problem = FieldProblem(field="body.confirm", message="must be the subject of the credential")
            raise NotConfirmedError(f"{problem.field}: {problem.message}", errors=[problem])
        erasures, erasure_id, digest = ErasureRepository(session), UUID(new_id()), self._subjects.digest(user.id)
        corr_id = current_corr_id()
        begun = await erasures.add(erasure_id, user.id, digest, corr_id)
        if begun is not None:
            number, requested_at = begun
            for step in STEPS:
                if step.at_once:
                    await step.erase_some(session, user.id, _ALL)
            asked = Asked(
                erasure_id, user.id, await erasures.note_engagements(erasure_id, user.id), requested_at, corr_id
            )
            event = request_event(asked, attempt=1)
            await self._outbox.add_erasure_requested(session, number, event)
        status = await self._status(erasures, await erasures.of_user(digest))
        await session.commit()
        if begun is not None:
            self._outbox.committed()
            self._engagements.forgotten()
            _logger.info("an erasure was requested", erasure=str(erasure_id))
        self._gate.close_for(digest)
        return status

    async def show(self, user: Principal, session: AsyncSession, erasure_id: UUID) -> ErasureStatus:
        """Tell how far an erasure is.

        Raises:
            ErasureNotFoundError: No such erasure.
            ErasureForbiddenError: Someone else's.
        """
        erasures = ErasureRepository(session)
        erasure = await erasures.get(erasure_id)
        if erasure is not None and erasure.subject_digest != self._subjects.digest(user.id):
            raise ErasureForbiddenError(f"Erasure {erasure_id} is of someone else.")
        return await self._status(erasures, erasure)

    async def _status(self, erasures: ErasureRepository, erasure: AccountErasure | None) -> ErasureStatus:
        if erasure is None:
            raise ErasureNotFoundError("There is no such erasure.")
        confirmed = await erasures.confirmations(erasure.id)
        services = {service: confirmed.get(service) for service in CONSUMERS} | {OURSELVES: erasure.erased_at}
        return ErasureStatus(erasure, services)


class Confirmations:
    """Notes what the services say of themselves."""

    def __init__(self, database: Database, subjects: ErasedSubjects) -> None:
        self._database, self._subjects = database, subjects

    async def handle(self, event: ErasureRequested | ErasureConfirmed) -> None:
        """Note a confirmation, once; ignores what is none.

        Raises:
            DatabaseUnavailableError: It is not noted.
        """
        if not isinstance(event, ErasureConfirmed):
            return
        service = event.data.service
        try:
            erasure_id = UUID(event.data.erasure_id)
        except ValueError:
            erasure_id = None
        if erasure_id is None or service not in CONSUMERS:
            _logger.warning("a confirmation of no erasure or of no service of ours", event_id=event.id)
            return
        digest = self._subjects.digest(event.subject)
        async with self._database.session() as session:
            new = await ErasureRepository(session).confirm(erasure_id, digest, service, event.data.confirmed_at)
            await session.commit()
        if new:
            _logger.info("an erasure was confirmed", erasure=str(erasure_id), by=service)


@dataclass(frozen=True)
class Asked:
    """What each attempt asks for.

    Attributes:
        engagements: Those that ended with the user.
    """

    erasure_id: UUID
    subject: str
    engagements: Sequence[int]
    requested_at: datetime
    corr_id: str


def request_event(asked: Asked, *, attempt: int) -> ErasureRequested:
    """Make the event that asks all services to erase a user."""
    data = ErasureRequestedData(
        erasure_id=str(asked.erasure_id),
        requested_at=asked.requested_at,
        attempt=attempt,
        corr_id=asked.corr_id,
        engagements=tuple(asked.engagements),
    )
    return ErasureRequested(
        id=new_id(),
        source="/taskwire/task-api",
        type=AccountEventType.ERASURE_REQUESTED,
        subject=asked.subject,
        time=datetime.now(UTC),
        traceparent=current_traceparent(),
        data=data,
    )
