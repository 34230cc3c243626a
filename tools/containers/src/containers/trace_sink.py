"""Takes OTLP over HTTP and keeps each body in a file: what a container can reach while tests cannot be reached by it.

Runs inside a container, in the image of a service: `python trace_sink.py DIRECTORY`.
"""

import itertools
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from typing_extensions import override

PORT: Final = 4318
_numbers = itertools.count()


class Handler(BaseHTTPRequestHandler):
    """Keeps what is sent."""

    directory: Path

    def do_POST(self) -> None:
        """Keep one body; its file has its name only when it is whole."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name = f"{next(_numbers):09}"
        unfinished = self.directory / f".{name}"
        unfinished.write_bytes(body)
        unfinished.chmod(0o666)
        unfinished.rename(self.directory / name)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    @override
    def log_message(self, *_: object) -> None:
        """Stay quiet."""


if __name__ == "__main__":
    Handler.directory = Path(sys.argv[1])
    # Its network is that of the containers around it.
    ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()  # noqa: S104
