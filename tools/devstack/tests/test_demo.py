import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typing_extensions import override

from devstack import demo as demo_module
from devstack.console import Console
from devstack.demo import Demo
from devstack.failures import ProvisionError

Item = dict[str, object]


class Services:
    """Answers for the three services, as they would or worse."""

    def __init__(self) -> None:
        self.audit: list[Item] = [self.entry("task.created", 1), self.entry("task.completed", 2)]
        self.inbox: list[Item] = [{"task_id": 7, "type": kind, "title": "t"} for kind in self.kinds()]
        self.create_status = 201
        self.seen: list[tuple[str, str, str]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @staticmethod
    def kinds() -> tuple[str, str]:
        return "task.created", "task.completed"

    @staticmethod
    def entry(kind: str, version: int) -> Item:
        return {"task_id": 7, "type": kind, "task_version": version, "actor": "alice", "hash": "ab" * 32}

    def answer(self, method: str, path: str) -> tuple[int, Item]:
        if path.startswith("/api/v1/audit"):
            return 200, {"items": self.audit}
        if path.startswith("/api/v1/notifications"):
            return 200, {"items": self.inbox}
        if path == "/api/v1/tasks" and method == "POST":
            return self.create_status, {"id": 7, "title": "Buy milk", "completed": False, "version": 1}
        return 200, {"id": 7, "title": "Buy milk", "completed": True, "version": 2}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        services = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                services.seen.append((self.command, self.path, self.headers["Authorization"]))
                status, body = services.answer(self.command, self.path)
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

            @override
            def log_message(self, *_: object) -> None: ...

        return Handler

    def demo(self, screen: io.StringIO) -> Demo:
        url = f"http://127.0.0.1:{self.server.server_port}"
        urls = dict.fromkeys(("task-api", "audit-worker", "notifier"), url)
        return Demo(Console.on(screen), urls, "alice", "the-token", "make token")


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setattr(demo_module, "_PATIENCE", 0.3)
    services = Services()
    thread = threading.Thread(target=services.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield services
    services.server.shutdown()
    services.server.server_close()
    thread.join()


def test_the_story_is_told_from_the_token_to_the_notification(services: Services) -> None:
    screen = io.StringIO()

    services.demo(screen).play()

    told = screen.getvalue()
    assert "TOKEN=$(make token)" in told
    assert "curl -sS -X POST 'http://127.0.0.1" in told
    assert "v2 task.completed by alice" in told
    assert [(method, path) for method, path, _ in services.seen] == [
        ("POST", "/api/v1/tasks"),
        ("POST", "/api/v1/tasks/7/complete"),
        ("GET", "/api/v1/audit/entries?task_id=7"),
        ("GET", "/api/v1/notifications"),
    ]
    assert {token for *_, token in services.seen} == {"Bearer the-token"}


def test_a_change_that_never_shows_up_ends_the_story_in_words(services: Services) -> None:
    services.audit.pop()

    with pytest.raises(
        ProvisionError, match=r"audit-worker did not show both changes: after 0 s there is task\.created\. Look at"
    ):
        services.demo(io.StringIO()).play()


def test_notifications_of_other_tasks_do_not_count(services: Services) -> None:
    services.inbox = [{**item, "task_id": 8} for item in services.inbox]

    with pytest.raises(ProvisionError, match="notifier did not show both changes: after 0 s there is nothing"):
        services.demo(io.StringIO()).play()


def test_a_refused_request_ends_the_story_with_its_answer(services: Services) -> None:
    services.create_status = 422

    with pytest.raises(
        ProvisionError, match=r"the demo stopped: POST .*/api/v1/tasks was answered 422: .*SERVICE=task-api"
    ):
        services.demo(io.StringIO()).play()


def test_a_service_that_is_not_there_ends_the_story_in_words() -> None:
    urls = dict.fromkeys(("task-api", "audit-worker", "notifier"), "http://127.0.0.1:9")

    with pytest.raises(ProvisionError, match="got no usable answer .*Connection refused"):
        Demo(Console.on(io.StringIO()), urls, "alice", "token", "make token").play()
