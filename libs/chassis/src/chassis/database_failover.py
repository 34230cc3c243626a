"""What a pooled connection must prove before it is used, and when it is given up: its server may be another by now.

After a failover the address is the same and the old connections lead nowhere. Either nobody answers on them, not even
that they are closed (the machine is gone, or the network to it), or the server they lead to is a standby now.
"""

import asyncio
from typing import Final
from weakref import WeakSet

import asyncpg
from sqlalchemy import Engine, event
from sqlalchemy.engine import AdaptedConnection, ExceptionContext
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

_READ_ONLY: Final = "25006"
"""SQLSTATE of a server that takes no writes: a standby, or one whose disk is full."""
_ASKED: Final = "taskwire.asked"


def ask_before_use(engine: Engine, *, patience: float) -> None:
    """Have each connection of the pool answer before it is used; one that was just made is used as it is.

    When one does not, all that are as old are replaced, without being asked: the server is the same for all. So a
    failover costs one caller the patience, and not each connection one. SQLAlchemy's own `pool_pre_ping` has no time
    limit, and needs a transaction around it where there is a pooler: three round trips. This is one message, which a
    pooler, too, sends to one server.

    Args:
        engine: Of the pool.
        patience: Seconds to wait for an answer.
    """

    def ask(connection: AdaptedConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
        if not record.info.get(_ASKED):
            record.info[_ASKED] = True
            return

        async def answers(driver: asyncpg.Connection) -> None:
            try:
                async with asyncio.timeout(patience):
                    await driver.execute("SELECT")
            except TimeoutError:
                driver.terminate()  # or whoever closes it waits for the other side
                raise

        try:
            connection.run_async(answers)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise InvalidatePoolError from error

    event.listen(engine, "checkout", ask)


def connections_of(engine: Engine) -> WeakSet[asyncpg.Connection]:
    """Give the connections that an engine opens from now on, as long as they are there.

    Who closes one waits for the other side to end it. So whoever does not want to wait cuts them by themselves.
    """
    found = WeakSet[asyncpg.Connection]()

    def note(connection: AdaptedConnection, _: ConnectionPoolEntry) -> None:
        found.add(connection.driver_connection)

    event.listen(engine, "connect", note)
    return found


def leave_read_only_servers(engine: Engine) -> None:
    """Give up a connection whose server takes no writes: a new one leads to the server that does, when there is one.

    To whoever wrote it is one that was lost: an outage.
    """

    def judge(context: ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
            context.is_disconnect = True
            # Just this one: where no server takes writes, those who read keep theirs.
            context.invalidate_pool_on_disconnect = False

    event.listen(engine, "handle_error", judge)
