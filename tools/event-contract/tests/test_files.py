"""The committed files: made by one command, compared by another, and released once."""

import json
import shutil
from pathlib import Path

import pytest

from event_contract import __main__ as program
from event_contract.files import current_contract, generated_files
from event_contract.releases import Contract, ReleaseError, problems, released_contracts
from task_events.json_schema import Json
from task_events.models import CONTRACT_VERSION


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """What was released before the current version, in a directory of its own."""
    (tmp_path / "released").mkdir()
    for released in (program.SPECS / "released").glob("*.json"):
        if released.stem != CONTRACT_VERSION:
            shutil.copy(released, tmp_path / "released")
    return tmp_path


@pytest.fixture
def specs(earlier: Path) -> Path:
    """The same with the current version released too."""
    assert program.main(["release"], earlier) == 0
    return earlier


def without_title(contract: Contract, version: str) -> Contract:
    schema: Json = json.loads(json.dumps(contract.schema))
    definitions = schema["$defs"]
    assert isinstance(definitions, dict)
    snapshot = definitions["TaskSnapshot"]
    assert isinstance(snapshot, dict)
    assert isinstance(snapshot["properties"], dict)
    assert isinstance(snapshot["required"], list)
    del snapshot["properties"]["title"]
    snapshot["required"].remove("title")
    return Contract(version, contract.topic, schema)


def release_as(directory: Path, contract: Contract) -> None:
    (directory / "released").mkdir(exist_ok=True)
    (directory / "released" / f"{contract.version}.json").write_text(contract.text)


def test_the_committed_files_are_what_the_code_generates_and_break_no_release() -> None:
    assert program.main(["check"]) == 0
    assert released_contracts(program.SPECS / "released", current_contract().major)


def test_what_was_written_passes_the_check(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["check"], specs) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", generated_files())
def test_a_file_that_differs_or_is_missing_is_named_with_what_to_do(
    specs: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (specs / name).write_text("{}\n")
    assert program.main(["check"], specs) == 1
    assert f"{name} is not what the code generates: run make contract and commit" in capsys.readouterr().err
    (specs / name).unlink()
    assert program.main(["check"], specs) == 1
    assert program.main(["write"], specs) == 0
    assert program.main(["check"], specs) == 0


def test_nothing_is_written_twice(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert program.main(["write"], specs) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("command", ["check", "write"])
def test_a_breaking_change_fails_with_field_rule_release_and_advice(
    specs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    broken = without_title(current_contract(), CONTRACT_VERSION)
    monkeypatch.setattr(program, "current_contract", lambda: broken)
    assert program.main([command], specs) == 1
    told = capsys.readouterr().err
    assert "data.task.title: the field was removed; consumers read it  [field-removed, breaks forward" in told
    assert "since 1.0" in told
    assert "start contract 2.0: docs/events.md" in told


def test_an_additive_change_passes_and_reminds_of_the_version(
    earlier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = current_contract()
    schema: Json = json.loads(json.dumps(older.schema))
    assert isinstance(schema["properties"], dict)
    del schema["properties"]["tracestate"]
    release_as(earlier, Contract(older.version, older.topic, schema))
    assert program.main(["write"], earlier) == 0
    assert program.main(["check"], earlier) == 0
    assert f"differs from released {older.version}: raise CONTRACT_VERSION" in capsys.readouterr().out


def test_a_new_major_may_break_the_old_one(specs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "current_contract", lambda: without_title(current_contract(), "2.0"))
    assert program.main(["check"], specs) == 0


def test_every_release_of_the_major_counts_and_not_only_the_newest() -> None:
    first = current_contract()
    second = without_title(first, "1.98")
    third = without_title(first, "1.99")
    (told,) = problems(third, [first, second])
    assert told.startswith("data.task.title")
    assert told.endswith(f"since {first.version}")


@pytest.mark.parametrize(("name", "value"), [("partitions", 12), ("name", "todo"), ("key", "owner id")])
def test_topic_key_and_partitions_belong_to_the_contract(name: str, value: str | int) -> None:
    released = current_contract()
    moved = Contract(released.version, released.topic | {name: value}, released.schema)
    (violation,) = moved.breaks(released)
    assert str(violation).startswith(f"topic.{name}: was {released.topic[name]}, is {value}")


def test_versions_only_grow() -> None:
    released = current_contract()
    newer = Contract("1.99", released.topic, released.schema)
    assert list(problems(released, [released, newer])) == [
        f"contract version {CONTRACT_VERSION}: 1.99 is released already, and versions only grow"
    ]


def test_a_version_is_released_once(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (specs / "released" / f"{CONTRACT_VERSION}.json").read_bytes()
    assert program.main(["release"], specs) == 1
    assert "is released already: raise CONTRACT_VERSION" in capsys.readouterr().err
    assert (specs / "released" / f"{CONTRACT_VERSION}.json").read_bytes() == before


def test_what_breaks_is_not_released(
    specs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "current_contract", lambda: without_title(current_contract(), "1.99"))
    assert program.main(["release"], specs) == 1
    assert "data.task.title" in capsys.readouterr().err
    assert not (specs / "released" / "1.99.json").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"title"', '"subject_line"'),
        ('"partitions": 6', '"partitions": 12'),
        ('"contract": "1.0"', '"contract": "1.1"'),
    ],
)
def test_an_edited_release_is_refused(specs: Path, capsys: pytest.CaptureFixture[str], old: str, new: str) -> None:
    path = specs / "released" / "1.0.json"
    path.write_text(path.read_text().replace(old, new))
    assert program.main(["check"], specs) == 1
    assert "1.0.json was edited, and a release never is: restore it from git" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"contract": "1.0", "topic": [], "schema": {}}'])
def test_a_damaged_release_is_refused(specs: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (specs / "released" / "1.0.json").write_text(content)
    assert program.main(["check"], specs) == 1
    assert "1.0.json is not a released contract" in capsys.readouterr().err


def test_a_lost_release_is_noticed(specs: Path) -> None:
    (specs / "released" / "1.0.json").unlink()
    with pytest.raises(ReleaseError, match=r"1\.0\.json is missing, but 1\.1\.json is there"):
        released_contracts(specs / "released", 1)
