"""Refuses requests of users who are erased, or being erased, without asking the database for each of them.

Each replica knows the digests of them all and reads every second which are new. Between a request to be erased and that
second, triggers refuse what would be added for the user. Who could not read for some time asks before it lets anybody
pass; that time is shorter than an erasure takes at least, so nobody gets in after the triggers stopped to refuse.
"""

import time
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from fastapi import FastAPI, Request
from sqlalchemy.exc import DBAPIError
from starlette.responses import Response

from chassis.database import Database
from chassis.erased_subjects import ErasedSubjects
from chassis.errors import ApiError
from chassis.identity import Principal
from chassis.periodic import repeating
from task_api.erasure.repository import ErasureRepository

_READ_EVERY: Final = 1.0
REFUSED_SQLSTATE: Final = "TWERA"
"""What the triggers of migration 0011 raise."""


class AccountErasedError(ApiError):
    """The account is erased, or being erased: for good."""

    status, code = 410, "account_erased"

    def __init__(self) -> None:
        super().__init__("This account is erased, or being erased; it does not come back.")


class OpenStreams(Protocol):
    """Streams that are open for users."""

    def user_ids(self) -> set[str]:
        """Give whose streams are open."""
        ...

    def end_streams_of_users(self, user_ids: Collection[str], why: ApiError) -> None:
        """End the streams of these users, and tell them why."""
        ...


class ErasedGate:
    """Lets all pass but those who are erased."""

    def __init__(self, database: Database, subjects: ErasedSubjects, *, trusted_for: float) -> None:
        """Prepare a gate that knows nobody.

        Args:
            database: Holds the erasures.
            subjects: Makes the digests.
            trusted_for: Seconds for which what was read counts.
        """
        self._database, self._subjects, self._trusted_for = database, subjects, trusted_for
        self._digests: set[bytes] = set()
        self._read_at: float | None = None

    async def admit(self, user: Principal) -> None:
        """Let a caller pass.

        Raises:
            AccountErasedError: Not this one.
            DatabaseUnavailableError: Nobody knows right now.
        """
        if self._read_at is None or time.monotonic() - self._read_at > self._trusted_for:
            await self.read()
        if self._digests and self._subjects.digest(user.id) in self._digests:
            raise AccountErasedError

    def close_for(self, digest: bytes) -> None:
        """Refuse a user from now on; other replicas read it."""
        self._digests.add(digest)

    def known_among(self, user_ids: Collection[str]) -> set[str]:
        """Tell, of what was read last, who of these is erased or being erased."""
        return {user_id for user_id in user_ids if self._digests and self._subjects.digest(user_id) in self._digests}

    async def read(self) -> None:
        """Read who is new: at first all, then those of the last minutes, which is longer than any commit takes."""
        before = time.monotonic()
        everything = self._read_at is None or before - self._read_at > 60  # noqa: PLR2004 (far below those minutes)
        async with self._database.session() as session:
            self._digests |= await ErasureRepository(session).digests(everything=everything)
        self._read_at = before

    def reading(self) -> AbstractAsyncContextManager[None]:
        """Keep reading in the background."""
        return repeating("read-erasures", _READ_EVERY, self.read)


def ending_streams_of_erased(gate: ErasedGate, streams: OpenStreams) -> AbstractAsyncContextManager[None]:
    """End the streams of those whom the gate refuses, in the background; their requests were admitted before."""

    async def end() -> None:
        if erased := gate.known_among(streams.user_ids()):
            streams.end_streams_of_users(erased, AccountErasedError())

    return repeating("end-streams-of-the-erased", _READ_EVERY, end)


def install_refusal(app: FastAPI) -> None:
    """Give callers whom a trigger refused the same answer as those whom the gate refuses."""

    async def refuse(request: Request, error: Exception) -> Response:
        original = error.orig if isinstance(error, DBAPIError) else None
        if getattr(original, "sqlstate", None) != REFUSED_SQLSTATE:
            raise error
        handler = app.exception_handlers[ApiError]
        response = handler(request, AccountErasedError())
        answer: Response = response if isinstance(response, Response) else await response
        return answer

    app.add_exception_handler(DBAPIError, refuse)
