"""How the pool of database connections fares, as metrics."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import Pool, QueuePool

_connections: Final = Gauge("taskwire_database_pool_connections", "Connections of the pool: in use, or idle", ["state"])
_most: Final = Gauge("taskwire_database_pool_max_connections", "Connections the pool may have, under load")
_waiting: Final = Gauge("taskwire_database_pool_waiting", "Requests and deliveries that wait for a connection now")
_wait: Final = Histogram(
    "taskwire_database_pool_wait_seconds",
    "Time to get a connection, or to be told that there is none",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5),
)
_exhausted: Final = Counter(
    "taskwire_database_pool_exhausted_total", "Times that all connections were in use for too long"
)


class PoolGauges:
    """Shows one pool; a process has one."""

    def __init__(self, pool: Pool, *, max_connections: int) -> None:
        """Show this pool from now on.

        Args:
            pool: Of the engine.
            max_connections: How many it may have.
        """
        _most.set(max_connections)
        if isinstance(pool, QueuePool):  # no other kind keeps connections that could be counted
            _connections.labels("in_use").set_function(pool.checkedout)
            _connections.labels("idle").set_function(pool.checkedin)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count and time whoever asks for a connection in this block."""
        with _waiting.track_inprogress(), _wait.time():
            try:
                yield
            except PoolTimeoutError:
                _exhausted.inc()
                raise
