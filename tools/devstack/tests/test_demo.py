import io
from collections.abc import Iterator

import pytest
from tools.devstack.tests.json_server import Asked, JsonServer
from typing_extensions import override

from devstack import demo as demo_module
from devstack.console import Console
from devstack.demo import Demo
from devstack.failures import ProvisionError

Item = dict[str, object]


class Services(JsonServer):
    """Answers for the three services, as they would or worse."""

    def __init__(self) -> None:
        super().__init__()
        self.audit: list[Item] = [self.entry("task.created", 1), self.entry("task.completed", 2)]
        self.inbox: list[Item] = [{"task_id": 7, "type": kind, "title": "t"} for kind in self.kinds()]
        self.create_status = 201
        self.seen: list[tuple[str, str, str | None]] = []

    @staticmethod
    def kinds() -> tuple[str, str]:
        return "task.created", "task.completed"

    @staticmethod
    def entry(kind: str, version: int) -> Item:
        return {"task_id": 7, "type": kind, "task_version": version, "actor": "alice", "hash": "ab" * 32}

    @override
    def answer(self, asked: Asked) -> tuple[int, Item]:
        self.seen.append((asked.method, asked.path, asked.credential))
        if asked.path.startswith("/api/v1/audit"):
            return 200, {"items": self.audit}
        if asked.path.startswith("/api/v1/notifications"):
            return 200, {"items": self.inbox}
        if asked.path == "/api/v1/tasks" and asked.method == "POST":
            return self.create_status, {"id": 7, "title": "Buy milk", "completed": False, "version": 1}
        return 200, {"id": 7, "title": "Buy milk", "completed": True, "version": 2}

    def demo(self, screen: io.StringIO) -> Demo:
        urls = dict.fromkeys(("task-api", "audit-worker", "notifier"), self.url)
        return Demo(Console.on(screen), urls, "alice", "the-token", "make token")


@pytest.fixture
def services() -> Iterator[Services]:
    services = Services()
    with services.serving():
        yield services


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


def test_a_change_that_never_shows_up_ends_the_story_in_words(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_module, "_PATIENCE", 0.3)
    services.audit.pop()

    with pytest.raises(
        ProvisionError, match=r"audit-worker did not show both changes: after 0 s there is task\.created\. Look at"
    ):
        services.demo(io.StringIO()).play()


def test_notifications_of_other_tasks_do_not_count(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_module, "_PATIENCE", 0.3)
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
