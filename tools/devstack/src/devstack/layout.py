"""Where one stack keeps its things: directories, files and ports."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from devstack.failures import ProvisionError

REPOSITORY: Final = Path(__file__).resolve().parents[4]
"""Root of the checkout this package runs from; devstack is never installed elsewhere."""

HOST: Final = "127.0.0.1"
"""Every part listens here and nowhere else: the stack is for one machine."""

DEFAULT_PORT_BASE: Final = 8000
MAX_SERVICES: Final = 10
"""Each kind of port has so many places, ten apart."""
_LOWEST_PORT: Final = 1024
_HIGHEST_PORT: Final = 65_535
_LAST_OFFSET: Final = 60


@dataclass(frozen=True)
class Ports:
    """The ports of one stack, all derived from its base."""

    base: int

    def app(self, index: int) -> int:
        """HTTP port of the service with this index."""
        return self.base + index

    def dapr_http(self, index: int) -> int:
        """Dapr's HTTP API beside the service with this index."""
        return self.base + 10 + index

    def dapr_grpc(self, index: int) -> int:
        """Dapr's gRPC API beside the service with this index."""
        return self.base + 20 + index

    def dapr_internal(self, index: int) -> int:
        """Daprd's own sidecar-to-sidecar port."""
        return self.base + 30 + index

    def dapr_metrics(self, index: int) -> int:
        """Daprd's Prometheus metrics."""
        return self.base + 40 + index

    @property
    def kafka(self) -> int:
        """Kafka's broker listener."""
        return self.base + 50

    @property
    def kafka_controller(self) -> int:
        """Kafka's KRaft controller listener."""
        return self.base + 51

    @property
    def postgres(self) -> int:
        """PostgreSQL."""
        return self.base + 60


@dataclass(frozen=True)
class Layout:
    """Paths and ports of one stack.

    Attributes:
        home: Data, logs and run files of this stack (`TASKWIRE_HOME`).
        cache: What was prepared once and every stack shares (`TASKWIRE_CACHE`).
        ports: The ports, derived from `TASKWIRE_PORT_BASE`.
    """

    home: Path
    cache: Path
    ports: Ports

    @classmethod
    def from_environment(cls, environment: dict[str, str]) -> Self:
        """Read the three `TASKWIRE_…` settings, or their defaults below the user's home directory.

        Raises:
            ProvisionError: `TASKWIRE_PORT_BASE` is not a number that leaves room for every port.
        """
        home = environment.get("TASKWIRE_HOME") or cls.default_home()
        cache = environment.get("TASKWIRE_CACHE") or Path.home() / ".cache" / "taskwire"
        base = _port_base(environment.get("TASKWIRE_PORT_BASE") or str(DEFAULT_PORT_BASE))
        return cls(_absolute(home), _absolute(cache), Ports(base))

    @staticmethod
    def default_home() -> Path:
        """The home of a stack for which nobody chose another."""
        return Path.home() / ".local" / "share" / "taskwire"

    @property
    def data(self) -> Path:
        """What must survive a restart: the databases and the event log."""
        return self.home / "data"

    @property
    def logs(self) -> Path:
        """One log file per part."""
        return self.home / "logs"

    @property
    def run(self) -> Path:
        """Files that mean something only while the stack runs."""
        return self.home / "run"

    @property
    def credentials_file(self) -> Path:
        """The secrets of this stack, made once at random."""
        return self.home / "credentials.json"

    @property
    def lock_file(self) -> Path:
        """Held (flock) by the supervisor for as long as it lives."""
        return self.run / "lock"

    @property
    def state_file(self) -> Path:
        """What runs where, for `status` and the other commands."""
        return self.run / "state.json"

    def log_file(self, name: str) -> Path:
        """Log of the part with this name."""
        return self.logs / f"{name}.log"

    def make_directories(self) -> None:
        """Create home and cache, readable by their owner only.

        Raises:
            ProvisionError: A directory cannot be created or written to.
        """
        for directory in (self.home, self.data, self.logs, self.run, self.cache):
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise ProvisionError(
                    f"the directory {directory} could not be created",
                    error.strerror or str(error),
                    "Choose other places with TASKWIRE_HOME (data) and TASKWIRE_CACHE (downloads)",
                ) from error


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()


def _port_base(text: str) -> int:
    highest = _HIGHEST_PORT - _LAST_OFFSET
    fix = f"Set it to a free port between {_LOWEST_PORT} and {highest}, for instance 18000"
    try:
        base = int(text)
    except ValueError as error:
        raise ProvisionError("TASKWIRE_PORT_BASE is not usable", f"{text!r} is not a number", fix) from error
    if not _LOWEST_PORT <= base <= highest:
        raise ProvisionError("TASKWIRE_PORT_BASE is not usable", f"{base} is out of range", fix)
    return base
