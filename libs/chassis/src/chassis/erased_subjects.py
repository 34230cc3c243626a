"""Who was erased: what is left of them is a keyed digest, by which late news of them is recognised.

A digest alone could be guessed by hashing every likely id; with a key that is not in the database it cannot. The key
must stay: under another one, nobody who was erased would be recognised.
"""

import hmac
from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

_PURPOSE: Final = b"taskwire erased subjects"
_AMONG: Final = text("SELECT digest FROM erased_subjects WHERE digest = ANY(CAST(:digests AS bytea[]))")
_ADD: Final = text("INSERT INTO erased_subjects (digest) VALUES (:digest) ON CONFLICT DO NOTHING")


class ErasedSubjects:
    """Digests of the ids of erased users, in a service's own database."""

    def __init__(self, secret: bytes) -> None:
        # Derived: the same secret may serve other purposes without one revealing anything about another.
        self._key = hmac.digest(secret, _PURPOSE, "sha256")

    def digest(self, subject: str) -> bytes:
        """Give what is kept of an id."""
        return hmac.digest(self._key, subject.encode(errors="surrogatepass"), "sha256")

    async def among(self, session: AsyncSession, subjects: Iterable[str]) -> set[str]:
        """Tell which of these ids are of erased users: one statement."""
        by_digest = {self.digest(subject): subject for subject in subjects}
        if not by_digest:
            return set()
        rows = await (await session.connection()).scalars(_AMONG, {"digests": list(by_digest)})
        return {by_digest[bytes(digest)] for digest in rows}

    async def add(self, session: AsyncSession, subject: str) -> None:
        """Note that a user is erased, in the session's transaction; a second time does nothing."""
        await (await session.connection()).execute(_ADD, {"digest": self.digest(subject)})


def add_erased_subjects_table(metadata: sa.MetaData) -> None:
    """Declare the table in a consumer's metadata; a migration of the consumer creates the same."""
    sa.Table(
        "erased_subjects",
        metadata,
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("octet_length(digest) = 32", name="digest"),
    )
