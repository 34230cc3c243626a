"""Everything of one user in one JSON document, in pieces: no more than one piece is ever in memory."""

from array import array
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Final

from pydantic_core import to_json

from chassis.database import Database
from chassis.identity import Principal
from task_api.encryption import Keyring
from task_api.users.account_repository import PARTS, AccountRepository
from task_api.users.profile import Profile
from task_api.users.repository import ProfileRepository
from task_api.users.schemas import ProfileOut

FORMAT: Final = "taskwire-account"
FORMAT_VERSION: Final = 1
_CHUNK: Final = 250
_ELSEWHERE: Final = {
    "audit_entries": "GET /api/v1/audit/entries of audit-worker",
    "notifications": "GET /api/v1/notifications of notifier",
    "tasks_of_engagements": "GET /api/v1/tasks/export?engagement_id={id} of task-api",
}


class AccountExport:
    """Writes all that is somebody's into a stream."""

    def __init__(self, database: Database, keys: Keyring) -> None:
        self._database, self._keys = database, keys

    async def begin(self, user: Principal) -> AsyncIterator[bytes]:
        """Decide what is in the document, and give its pieces.

        A connection to the database is held only while it is read, never while a piece is sent.

        Raises:
            DatabaseUnavailableError: Now, or while a piece is made: then the stream breaks off.
            DecryptionError: The profile cannot be read.
        """
        async with self._database.session() as session:
            profile = await ProfileRepository(session, self._keys).get(user.id) or Profile(user.id)
            account = AccountRepository(session, user.id)
            ids = {part: await account.ids(part) for part in PARTS}
        return self._pieces(profile, ids)

    async def _pieces(self, profile: Profile, ids: Mapping[str, "array[int]"]) -> AsyncIterator[bytes]:
        head = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "exported_at": datetime.now(UTC),
            "profile": ProfileOut.of(profile),
            "elsewhere": _ELSEWHERE,
        }
        yield to_json(head)[:-1]
        for part in PARTS:
            yield b',\n"%b":[' % part.encode()
            between = b"\n"
            for begin in range(0, len(ids[part]), _CHUNK):
                async with self._database.session() as session:
                    rows = await AccountRepository(session, profile.id).read(part, ids[part][begin : begin + _CHUNK])
                if rows:
                    yield between + b",\n".join(to_json(row) for row in rows)
                    between = b",\n"
            yield b"]"
        yield b"}\n"
