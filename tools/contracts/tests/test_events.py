"""The committed files: made by one command, compared by another, and released once."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from contracts import __main__ as program
from contracts.events import EVENTS, current_contract, generated_files, violations
from contracts.releases import Contract, ReleaseError, problems, released_contracts
from task_events.json_schema import Json
from task_events.models import CONTRACT_VERSION

RELEASED = Path("events") / "released"


def run(command: str, directory: Path, contract: Contract | None = None) -> int:
    """Do a command to the contract of events, or to another one in its place."""
    kind = EVENTS if contract is None else replace(EVENTS, current=lambda: contract)
    return program.main([command], directory, [kind])


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """What was released before the current version, in a directory of its own."""
    (tmp_path / RELEASED).mkdir(parents=True)
    for released in (program.SPECS / RELEASED).glob("*.json"):
        if released.stem != CONTRACT_VERSION:
            shutil.copy(released, tmp_path / RELEASED)
    return tmp_path


@pytest.fixture
def specs(earlier: Path) -> Path:
    """The same with the current version released too."""
    assert run("release", earlier) == 0
    return earlier


def event_problems(current: Contract, released: list[Contract]) -> list[str]:
    return list(problems(current, released, EVENTS.breaks))


def without_title(contract: Contract, version: str) -> Contract:
    schema: Json = json.loads(json.dumps(contract.parts["schema"]))
    definitions = schema["$defs"]
    assert isinstance(definitions, dict)
    snapshot = definitions["TaskSnapshot"]
    assert isinstance(snapshot, dict)
    assert isinstance(snapshot["properties"], dict)
    assert isinstance(snapshot["required"], list)
    del snapshot["properties"]["title"]
    snapshot["required"].remove("title")
    return Contract(version, {"topic": contract.parts["topic"], "schema": schema})


def release_as(directory: Path, contract: Contract) -> None:
    (directory / RELEASED).mkdir(exist_ok=True, parents=True)
    (directory / RELEASED / f"{contract.version}.json").write_text(contract.text)


def test_the_committed_files_are_what_the_code_generates_and_break_no_release() -> None:
    assert program.main(["check"]) == 0
    for kind in program.KINDS:
        assert released_contracts(program.SPECS / kind.released, kind.current().major), kind.name


def test_what_was_written_passes_the_check(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", specs) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", generated_files())
def test_a_file_that_differs_or_is_missing_is_named_with_what_to_do(
    specs: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (specs / name).write_text("{}\n")
    assert run("check", specs) == 1
    assert f"{name} is not what the code generates: run make contract and commit" in capsys.readouterr().err
    (specs / name).unlink()
    assert run("check", specs) == 1
    assert run("write", specs) == 0
    assert run("check", specs) == 0


def test_nothing_is_written_twice(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run("write", specs) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("command", ["check", "write"])
def test_a_breaking_change_fails_with_field_rule_release_and_advice(
    specs: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run(command, specs, without_title(current_contract(), CONTRACT_VERSION)) == 1
    told = capsys.readouterr().err
    assert "data.task.title: the field was removed; consumers read it  [field-removed, breaks forward" in told
    assert "since 1.0" in told
    assert "start contract 2.0: docs/events.md" in told


def test_an_additive_change_passes_and_reminds_of_the_version(
    earlier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = current_contract()
    schema: Json = json.loads(json.dumps(older.parts["schema"]))
    assert isinstance(schema["properties"], dict)
    del schema["properties"]["tracestate"]
    release_as(earlier, Contract(older.version, {"topic": older.parts["topic"], "schema": schema}))
    assert run("write", earlier) == 0
    assert run("check", earlier) == 0
    assert f"differs from released {older.version}: raise CONTRACT_VERSION" in capsys.readouterr().out


def test_a_new_major_may_break_the_old_one(specs: Path) -> None:
    assert run("check", specs, without_title(current_contract(), "2.0")) == 0


def test_every_release_of_the_major_counts_and_not_only_the_newest() -> None:
    first = current_contract()
    second = without_title(first, "1.98")
    third = without_title(first, "1.99")
    (told,) = event_problems(third, [first, second])
    assert told.startswith("data.task.title")
    assert told.endswith(f"since {first.version}")


@pytest.mark.parametrize(("name", "value"), [("partitions", 12), ("name", "todo"), ("key", "owner id")])
def test_topic_key_and_partitions_belong_to_the_contract(name: str, value: str | int) -> None:
    released = current_contract()
    topic = released.parts["topic"]
    moved = Contract(released.version, {**released.parts, "topic": topic | {name: value}})
    (violation,) = violations(moved, released)
    assert str(violation).startswith(f"topic.{name}: was {topic[name]}, is {value}")


def test_versions_only_grow() -> None:
    released = current_contract()
    newer = Contract("1.99", released.parts)
    assert event_problems(released, [released, newer]) == [
        f"contract version {CONTRACT_VERSION}: 1.99 is released already, and versions only grow"
    ]


def test_a_version_is_released_once(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (specs / RELEASED / f"{CONTRACT_VERSION}.json").read_bytes()
    assert run("release", specs) == 0
    assert f"{CONTRACT_VERSION} is released as it is" in capsys.readouterr().out
    other: Json = json.loads(json.dumps(current_contract().parts["schema"]))
    other["$id"] = "urn:taskwire:another"
    assert run("release", specs, Contract(CONTRACT_VERSION, {**current_contract().parts, "schema": other})) == 1
    assert "is released already: raise CONTRACT_VERSION" in capsys.readouterr().err
    assert (specs / RELEASED / f"{CONTRACT_VERSION}.json").read_bytes() == before


def test_what_breaks_is_not_released(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("release", specs, without_title(current_contract(), "1.99")) == 1
    assert "data.task.title" in capsys.readouterr().err
    assert not (specs / RELEASED / "1.99.json").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"title"', '"subject_line"'),
        ('"partitions": 6', '"partitions": 12'),
        ('"contract": "1.0"', '"contract": "1.1"'),
    ],
)
def test_an_edited_release_is_refused(specs: Path, capsys: pytest.CaptureFixture[str], old: str, new: str) -> None:
    path = specs / RELEASED / "1.0.json"
    path.write_text(path.read_text().replace(old, new))
    assert run("check", specs) == 1
    assert "1.0.json was edited, and a release never is: restore it from git" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"contract": "1.0", "topic": [], "schema": {}}'])
def test_a_damaged_release_is_refused(specs: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (specs / RELEASED / "1.0.json").write_text(content)
    assert run("check", specs) == 1
    assert "1.0.json is not a released contract" in capsys.readouterr().err


def test_a_lost_release_is_noticed(specs: Path) -> None:
    (specs / RELEASED / "1.0.json").unlink()
    with pytest.raises(ReleaseError, match=r"1\.0\.json is missing, but 1\.1\.json is there"):
        released_contracts(specs / RELEASED, 1)
