"""A server on the loopback that answers with JSON, for what asks the services."""

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import override


@dataclass(frozen=True)
class Asked:
    """A request, with its body read as JSON."""

    method: str
    path: str
    credential: str | None
    body: Any


class JsonServer(ABC):
    """Answers as the class that is made of it says."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @abstractmethod
    def answer(self, asked: Asked) -> tuple[int, object]:
        """Give the status and the body of an answer."""

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                credential = self.headers["Authorization"]
                asked = Asked(self.command, self.path, credential, json.loads(body) if body else None)
                status, answer = server.answer(asked)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

            @override
            def log_message(self, *_: object) -> None: ...

        return Handler
