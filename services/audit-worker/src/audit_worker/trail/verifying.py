"""`python -m audit_worker verify`: does the trail that is in this database hold, from its first entry to its head?"""

import asyncio
import sys

from audit_worker.settings import AuditWorkerSettings
from audit_worker.trail.chain import GENESIS, ChainFault, Head, verify_chain
from audit_worker.trail.repository import TrailRepository, Which
from chassis.database import Database, open_database

_AT_ONCE = 1_000


def verify(settings: AuditWorkerSettings) -> None:
    """Say how long the chain is and end with 0, or say every place where it does not hold and end with 1."""
    faults, head = asyncio.run(_verified(settings))
    for fault in faults:
        sys.stdout.write(f"{fault.sequence}: {fault.problem}\n")
    if faults:
        raise SystemExit(1)
    sys.stdout.write(f"the chain holds: {head.sequence} entries, the last is {head.hash}\n")


async def _verified(settings: AuditWorkerSettings) -> tuple[list[ChainFault], Head]:
    database = open_database(settings, application_name="verify")
    try:
        return await verified(database)
    finally:
        await database.close()


async def verified(database: Database) -> tuple[list[ChainFault], Head]:
    """Check all entries against the head as it is now; entries that come meanwhile are not looked at.

    Returns:
        Where the chain does not hold, and its head.
    """
    faults: list[ChainFault] = []
    async with database.session() as session:
        head = await TrailRepository(session).head()
    last = GENESIS
    while last.sequence < head.sequence:
        async with database.session() as session:
            limit = min(_AT_ONCE, head.sequence - last.sequence)
            entries = await TrailRepository(session).page(Which(None), after=last.sequence, limit=limit)
        faults += verify_chain(entries, after=last)
        if not entries:
            break
        last = Head(entries[-1].sequence, entries[-1].hash)
    return faults + verify_chain([], after=last, head=head), head
