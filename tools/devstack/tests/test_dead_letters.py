"""`make dlq` before an API that answers as the consumers do, or worse."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.devstack.tests.json_server import Asked, JsonServer
from typing_extensions import override

from devstack.__main__ import main
from devstack.dead_letter_desk import DeadLetterDesk, Json
from devstack.failures import ProvisionError


class Api(JsonServer):
    """Answers what it was told to, in turn, and remembers what was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[tuple[int, object]] = []
        self.seen: list[tuple[str, str, Json | None]] = []

    @override
    def answer(self, asked: Asked) -> tuple[int, object]:
        self.seen.append((asked.method, asked.path, asked.body))
        return self.answers.pop(0)

    @property
    def desk(self) -> DeadLetterDesk:
        return DeadLetterDesk(self.url, "the-token")


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api()
    with api.serving():
        yield api


def test_every_page_of_open_letters_is_read(api: Api) -> None:
    api.answers = [
        (200, {"items": [{"id": 2}], "next_cursor": "c"}),
        (200, {"items": [{"id": 1}], "next_cursor": None}),
    ]

    assert [letter["id"] for letter in api.desk.open_letters()] == [2, 1]
    assert [path.partition("?")[2] for _, path, _ in api.seen] == [
        "status=open&limit=200",
        "status=open&limit=200&cursor=c",
    ]


def test_all_open_letters_are_redriven_page_by_page(api: Api) -> None:
    api.answers = [
        (200, {"items": [{"id": 1}], "next_cursor": "c"}),
        (200, {"items": [{"id": 2}], "next_cursor": None}),
    ]

    assert [item["id"] for item in api.desk.redrive(None)] == [1, 2]
    assert [body for _, _, body in api.seen] == [{"limit": 50, "cursor": None}, {"limit": 50, "cursor": "c"}]


def test_many_named_letters_are_redriven_in_requests_that_the_api_takes(api: Api) -> None:
    api.answers = [(200, {"items": [{"id": 1}], "next_cursor": None})] * 2

    api.desk.redrive(range(1, 61))

    assert [len((body or {})["ids"]) for _, _, body in api.seen] == [50, 10]


def test_a_refusal_is_told_in_the_services_words(api: Api) -> None:
    api.answers = [(409, {"detail": "Dead letter 7 was redriven by olga."})]

    with pytest.raises(ProvisionError, match="the service refused: Dead letter 7 was redriven by olga"):
        api.desk.discard(7, "why")


def test_a_service_that_is_not_there_is_told_in_words() -> None:
    with pytest.raises(ProvisionError, match="the service did not answer: .*Connection refused"):
        DeadLetterDesk("http://127.0.0.1:9", "token").show(1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "The dead letters are in a running stack: none runs in "),
        (["--redrive", "7"], "Each service has letters of its own: none was named. For example: make dlq SERVICE="),
        (["--service", "notifier", "--id", "7", "--redrive", "8"], "One thing at a time: ID and REDRIVE were given."),
    ],
)
def test_a_command_that_makes_no_sense_says_what_would(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("SERVICE", "ID", "REDRIVE", "DISCARD", "NOTE", "TASKWIRE_PORT_BASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TASKWIRE_HOME", str(tmp_path))
    monkeypatch.setenv("TASKWIRE_ENV_FILE", os.devnull)

    assert main(["dlq", *arguments]) == 1
    assert sentence in capsys.readouterr().err
