"""Hands on what the containers' trace sink has kept."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from containers.composition import SINK
from containers.trace_sink import PORT

_POLL: Final = 0.1


class SpanReader:
    """Reads the directory of a trace sink in a thread, each file once, in the order of arrival."""

    def __init__(self, directory: Path, receive: Callable[[bytes], None]) -> None:
        self.directory = directory
        self.url = f"http://{SINK}:{PORT}"
        self._receive = receive
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        directory.mkdir()
        # The sink is another user.
        directory.chmod(0o777)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Read what is there and end."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _read(self) -> None:
        while not self._ended.wait(_POLL):
            self._read_all()
        self._read_all()

    def _read_all(self) -> None:
        for file in sorted(self.directory.glob("[0-9]*")):
            self._receive(file.read_bytes())
            file.unlink()
