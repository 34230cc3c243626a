"""Nonces of signed requests: each is taken once, by one of all replicas of a service."""

from contextlib import AbstractAsyncContextManager
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from chassis.database import Database
from chassis.periodic import repeating

LIFETIME: Final = 600
"""Seconds for which a nonce is known, by the clock of the database. Its signature is accepted for 120 seconds; the rest
is for clocks of replicas that are wrong."""
_PURGE_INTERVAL: Final = 60.0
_PURGE_BATCH: Final = 5_000

# Of two at once the second waits for the first, and finds its row.
_CLAIM: Final = text("""
    INSERT INTO proxy_nonces (key_id, nonce, expires_at)
    VALUES (:key_id, :nonce, now() + :lifetime * interval '1 second')
    ON CONFLICT DO NOTHING
""")
_PURGE: Final = text("""
    DELETE FROM proxy_nonces WHERE (key_id, nonce) IN (
        SELECT key_id, nonce FROM proxy_nonces WHERE expires_at < now() LIMIT :limit FOR UPDATE SKIP LOCKED
    )
""")


class NonceStore:
    """The nonces of one service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, key_id: str, nonce: str) -> bool:
        """Take a nonce; it stays taken when this returns.

        Raises:
            DatabaseUnavailableError: Whether it is new cannot be found out.
        """
        values = {"key_id": key_id, "nonce": nonce, "lifetime": LIFETIME}
        async with self._database.session() as session:
            claimed = (await (await session.connection()).execute(_CLAIM, values)).rowcount == 1
            await session.commit()
        return claimed

    async def purge(self) -> None:
        """Forget nonces whose time is over, in small transactions; every replica may, none waits for another."""
        batch = _PURGE_BATCH
        while batch == _PURGE_BATCH:
            async with self._database.session() as session:
                batch = (await (await session.connection()).execute(_PURGE, {"limit": _PURGE_BATCH})).rowcount
                await session.commit()

    def forgetting(self) -> AbstractAsyncContextManager[None]:
        """Purge in the background."""
        return repeating("forget-proxy-nonces", _PURGE_INTERVAL, self.purge)


def add_nonce_table(metadata: sa.MetaData) -> None:
    """Declare the table in a service's metadata; a migration of the service creates the same."""
    sa.Table(
        "proxy_nonces",
        metadata,
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("nonce", sa.Text, primary_key=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, index=True),
    )
