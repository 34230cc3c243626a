"""The committed OpenAPI documents: written, compared and released by the same commands as the contract of events."""

import copy
from pathlib import Path
from typing import Any

import pytest

from contracts import __main__ as program
from contracts.apis import api, document_of

DOCUMENT = document_of("task-api")
DOCUMENT["info"]["version"] = "1.0"  # as if nothing had been released yet


def run(command: str, directory: Path, document: dict[str, Any] = DOCUMENT) -> int:
    return program.main([command], directory, [api("task-api", lambda: document)])


def changed(version: str = "1.0", *, remove: str | None = None, add: str | None = None) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    document["info"]["version"] = version
    task = document["components"]["schemas"]["TaskOut"]
    if remove:
        del task["properties"][remove]
        task["required"].remove(remove)
    if add:
        task["properties"][add] = {"type": "string"}
    return document


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    assert run("release", tmp_path) == 0
    return tmp_path


def test_a_document_that_differs_or_is_missing_is_named_with_what_to_do(
    specs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check", specs) == 0
    for damage in (lambda path: path.write_text("{}\n"), Path.unlink):
        damage(specs / "openapi" / "task-api.json")
        assert run("check", specs) == 1
        assert "task-api.json is not what the code generates: run make contract" in capsys.readouterr().err
        assert run("write", specs) == 0
        assert run("check", specs) == 0


def test_a_breaking_change_fails_with_operation_field_rule_release_and_advice(
    specs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("write", specs, changed(remove="priority")) == 1
    told = capsys.readouterr().err
    assert (
        "GET /api/v1/tasks/{task_id}, response 200, priority: the field was removed; clients read it  "
        "[field-removed]  since 1.0" in told
    )
    assert "start 2.0: docs/api/README.md, Versions" in told


def test_a_breaking_change_is_not_released_under_a_minor_but_under_a_major(
    specs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("release", specs, changed("1.1", remove="priority")) == 1
    assert "task-api: GET /api/v1/tasks" in capsys.readouterr().err
    assert run("release", specs, changed("2.0", remove="priority")) == 0
    assert (specs / "openapi" / "released" / "task-api" / "2.0.json").is_file()


def test_an_additive_change_passes_and_reminds_of_the_version(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("write", specs, changed(add="colour")) == 0
    assert "task-api differs from released 1.0: raise api_version (services/task-api/" in capsys.readouterr().out
    assert run("release", specs, changed(add="colour")) == 1
    assert run("release", specs, changed("1.1", add="colour")) == 0
    assert run("check", specs, changed("1.1", remove="priority")) == 1


def test_other_words_are_no_other_contract(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["info"]["description"] = "In other words."
    assert run("write", specs, document) == 0
    assert "differs" not in capsys.readouterr().out


def test_only_the_named_contract_is_released(tmp_path: Path) -> None:
    assert program.main(["release", "notifier"], tmp_path) == 0
    assert [path.name for path in (tmp_path / "openapi" / "released").iterdir()] == ["notifier"]
    with pytest.raises(SystemExit):
        program.main(["release", "nothing"], tmp_path)


def test_a_document_is_the_same_each_time() -> None:
    assert document_of("audit-worker") == document_of("audit-worker")
