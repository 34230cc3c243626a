"""How containers ended, as Docker tells it while it happens: it remembers no more than its last 256 events."""

import subprocess
from pathlib import Path
from typing import Final

from containers.docker import docker_command

_SIGNALLED: Final = 128
_PATIENCE: Final = 10.0


class Endings:
    """Listens to Docker's events of one Compose project."""

    def __init__(self, project: str, file: Path) -> None:
        self._project = project
        self._file = file
        self._listener: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to listen."""
        of_ours = ["--filter", f"label=com.docker.compose.project={self._project}"]
        kinds = ["--filter", "event=die", "--filter", "event=stop"]
        form = "{{.Actor.ID}} {{.Action}} {{.Actor.Attributes.exitCode}}"
        with self._file.open("wb") as file:
            self._listener = subprocess.Popen(  # noqa: S603
                [*docker_command(), "events", *of_ours, *kinds, "--format", form], stdout=file
            )

    def stop(self) -> None:
        """Listen no more."""
        if self._listener is not None:
            self._listener.terminate()
            self._listener.wait(_PATIENCE)

    def exit_codes(self, container: str) -> list[int]:
        """How a container ended each time that it ended unasked; negative: by which signal."""
        events = [line.split() for line in self._file.read_text().splitlines()]
        ended = [event[1:] for event in events if event[0].startswith(container)]
        # An end that was asked for is followed by a `stop`.
        followed = zip(ended, [*ended[1:], [""]], strict=False)
        codes = [int(event[1]) for event, after in followed if event[0] == "die" and after[0] != "stop"]
        return [_SIGNALLED - code if code > _SIGNALLED else code for code in codes]
