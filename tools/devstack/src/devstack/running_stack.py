"""What a stack under test can be asked and made to do, whatever it is made of."""

import signal
from collections.abc import Mapping, Sequence
from typing import Protocol

from devstack.layout import Ports
from devstack.leaks import Leak


class RunningStack(Protocol):
    """A whole stack that runs: processes of ours (`StackUnderTest`) or containers (`containers.ContainerStack`).

    A part is a service (`task-api`), the sidecar beside one (`daprd-task-api`), `kafka` or `postgres`.
    """

    @property
    def urls(self) -> Mapping[str, str]:
        """Base URL per service."""

    @property
    def databases(self) -> Mapping[str, str]:
        """Connection string per service."""

    @property
    def kafka(self) -> str:
        """Bootstrap address of the broker."""

    @property
    def ports(self) -> Ports:
        """Where on the loopback address everything listens."""

    @property
    def part_names(self) -> Sequence[str]:
        """Every part there is."""

    def signing_secret(self) -> str:
        """What tokens of this stack are signed with."""

    def token(self, user: str, roles: Sequence[str] = (), lifetime: int = 3600) -> str:
        """A token the services of this stack accept."""

    def must_not_log(self, secret: str, what: str) -> None:
        """Have this stack fail at its end if some part has logged this."""

    def secrets(self) -> Mapping[str, str]:
        """What no part may log, with a name for each."""

    def leaks(self) -> list[Leak]:
        """Where some part has logged a secret until now."""

    def pid(self, name: str) -> int:
        """Process id of a part that runs, on this machine."""

    def environment(self, name: str) -> Mapping[str, str]:
        """What a part that runs was told."""

    def pause(self, name: str) -> None:
        """Freeze a part: it keeps its connections and answers nobody."""

    def resume(self, name: str) -> None:
        """Let a frozen part go on."""

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal a part from outside and wait until that process is gone; it is started again by itself."""

    async def stop_part(self, name: str) -> None:
        """Stop a part in good order; it stays down until `start_part`."""

    async def start_part(self, name: str) -> None:
        """Start a stopped part and wait until it is ready."""

    async def wait_ready(self, name: str) -> None:
        """Wait until a part runs and does its work."""

    async def wait_all_ready(self) -> None:
        """Wait until every part runs and does its work."""

    async def make_whole(self) -> None:
        """Have every part run and do its work, whatever was frozen or stopped."""

    def log(self, name: str, lines: int = 50) -> list[str]:
        """The last lines a part has logged."""

    def exit_codes(self, name: str) -> list[int]:
        """How a part ended each time that it ended unasked, since the stack began."""
