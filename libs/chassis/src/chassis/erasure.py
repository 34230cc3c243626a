"""How a consumer erases a user: first a fence, then everything behind it, then its word that it is done.

The fence is the digest of the user's id. Its transaction waits for all that are writing what came before, and all that
come after it see it: so what the erasure does not find is never there again, however late events arrive. The rest goes
in small transactions. A process may die between any two lines: the request is delivered again, and finds done what is.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.accounts import AccountEvent
from chassis.correlation import new_id
from chassis.database import Database
from chassis.dead_letters.erasing import erase_letters, hold_letters
from chassis.erased_subjects import ErasedSubjects
from chassis.identity import ENGAGEMENT_PREFIX
from chassis.logging import get_logger
from chassis.publisher import DaprPublisher, Publisher
from chassis.settings import ServiceSettings
from task_events import ErasureConfirmed, ErasureConfirmedData, ErasureRequested

PUBLISH_TIMEOUT: Final = 1.2
"""Seconds for the confirmation; what is left of `HANDLING_TIMEOUT` is for erasing."""
_ERASE_TIMEOUT: Final = 2.0
_BATCH: Final = 500

_logger = get_logger(__name__)


class UserData(Protocol):
    """What a service holds of users."""

    async def hold(self, session: AsyncSession) -> None:
        """Wait for everybody who is adding to it, and have all others wait for this transaction."""
        ...

    async def erase_some(self, session: AsyncSession, subject: str, *, limit: int) -> int:
        """Erase so many things of a user at most; gives how many there were, 0 when nothing is left."""
        ...


class Erasure:
    """Answers requests to erase a user."""

    def __init__(
        self, service: str, database: Database, subjects: ErasedSubjects, data: UserData, publisher: Publisher
    ) -> None:
        """Prepare it.

        Args:
            service: App id, which the confirmation names.
            database: Holds everything that is to go.
            subjects: Where it is noted who was erased.
            data: What else there is than dead letters.
            publisher: Takes the confirmation.
        """
        self._service, self._database, self._subjects = service, database, subjects
        self._data, self._publisher = data, publisher
        # The last letter that was looked at, of those whose turn was cut short here. Lost, it begins anew.
        self._letters: dict[str, int] = {}

    async def handle(self, event: AccountEvent) -> None:
        """Erase the user of a request and say so; ignores what is no request.

        Raises:
            DatabaseUnavailableError: Not all is erased.
            TimeoutError: Not all is erased yet: what was stays so, the next delivery goes on.
            PublishError: All is erased, and nobody knows.
        """
        if not isinstance(event, ErasureRequested):
            return
        # What nobody else is in any more is theirs, too; nobody is called as it is.
        owners = [event.subject, *(f"{ENGAGEMENT_PREFIX}{number}" for number in event.data.engagements)]
        async with asyncio.timeout(_ERASE_TIMEOUT):
            await self._raise_fence(owners)
            erased = sum([await self._erase(owner) for owner in owners])
        await self._publisher.publish([_confirmation(event, self._service).encode()])
        _logger.info("a user was erased", erasure=event.data.erasure_id, attempt=event.data.attempt, rows=erased)

    async def _raise_fence(self, owners: Sequence[str]) -> None:
        async with self._database.session() as session:
            if len(await self._subjects.among(session, owners)) == len(owners):
                return
            await self._data.hold(session)
            await hold_letters(session)
            for owner in owners:
                await self._subjects.add(session, owner)
            await session.commit()

    async def _erase(self, subject: str) -> int:
        total, rows = 0, 1
        while rows:
            async with self._database.session() as session:
                rows = await self._data.erase_some(session, subject, limit=_BATCH)
                await session.commit()
            total += rows
        return total + await self._erase_letters(subject)

    async def _erase_letters(self, subject: str) -> int:
        """Go through the letters, and on from there when the time was over: behind the fence none are added before."""
        total = 0
        while True:
            async with self._database.session() as session:
                part = await erase_letters(session, subject, after=self._letters.get(subject, 0))
                await session.commit()
            total += part.rows
            if part.up_to is None:
                self._letters.pop(subject, None)
                return total
            self._letters[subject] = part.up_to


def confirming_publisher(settings: ServiceSettings) -> DaprPublisher:
    """Make what a consumer publishes its confirmations through; connects when it is first used."""
    return DaprPublisher(
        http_port=settings.dapr_http_port,
        grpc_port=settings.dapr_grpc_port,
        api_token=settings.dapr_api_token.get_secret_value(),
        timeout=PUBLISH_TIMEOUT,
    )


def _confirmation(request: ErasureRequested, service: str) -> ErasureConfirmed:
    now = datetime.now(UTC)
    data = ErasureConfirmedData(
        erasure_id=request.data.erasure_id, corr_id=request.data.corr_id, service=service, confirmed_at=now
    )
    return ErasureConfirmed(
        id=new_id(),
        source=f"/taskwire/{service}",
        subject=request.subject,
        time=now,
        traceparent=request.traceparent,
        data=data,
    )
