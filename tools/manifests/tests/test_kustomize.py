"""Which kustomize is taken; programs are scripts on a PATH of the test's own, that they are asked is real."""

import json
import re
from pathlib import Path

import pytest

from devstack.failures import ProvisionError
from manifests.kustomize import MODULE, Kustomize, ensure_kustomize


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory on PATH, empty."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


def install(directory: Path, name: str, answer: str, code: int = 0) -> None:
    program = directory / name
    program.write_text(f"#!/bin/sh\necho '{answer}'\nexit {code}\n")
    program.chmod(0o755)


def kubectl_with(version: str) -> str:
    return json.dumps({"clientVersion": {"gitVersion": "v1.34.0"}, "kustomizeVersion": version})


def refuse_to_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object) -> None:
        raise ProvisionError("kustomize", "is built here", "nothing to do")

    monkeypatch.setattr("manifests.kustomize._build", build)


def test_an_installed_kustomize_comes_first(programs: Path, tmp_path: Path) -> None:
    install(programs, "kubectl", kubectl_with("v5.5.0"))
    install(programs, "kustomize", "v5.7.1")
    found = ensure_kustomize(tmp_path / "cache", print)
    assert found == Kustomize((str(programs / "kustomize"), "build"), "v5.7.1")


def test_then_the_one_inside_kubectl(programs: Path, tmp_path: Path) -> None:
    install(programs, "kubectl", kubectl_with("v5.5.0"))
    found = ensure_kustomize(tmp_path / "cache", print)
    assert found == Kustomize((str(programs / "kubectl"), "kustomize"), "v5.5.0")


@pytest.mark.parametrize(
    ("name", "answer", "code"),
    [
        ("kustomize", "v4.5.7", 0),
        ("kustomize", "no version at all", 0),
        ("kustomize", "v5.7.1", 1),
        ("kubectl", kubectl_with("v4.5.7"), 0),
        ("kubectl", "{}", 0),
        ("kubectl", "not JSON", 0),
    ],
)
def test_what_is_too_old_or_does_not_answer_is_passed_over_for_one_that_is_built(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, answer: str, code: int
) -> None:
    install(programs, name, answer, code)
    refuse_to_build(monkeypatch)
    with pytest.raises(ProvisionError, match="is built here"):
        ensure_kustomize(tmp_path / "cache", print)


def test_one_that_was_built_before_is_taken(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_to_build(monkeypatch)
    pinned = re.search(r"kustomize/v5 (v5\S+)", (MODULE / "go.mod").read_text())
    assert pinned is not None
    built = tmp_path / "cache" / "kustomize" / pinned[1] / "kustomize"
    built.parent.mkdir(parents=True)
    install(built.parent, "kustomize", "rendered")

    found = ensure_kustomize(tmp_path / "cache", print)

    assert found.version == pinned[1]
    assert found.render(tmp_path) == "rendered\n"


def test_what_kustomize_refuses_is_told_in_its_own_words(programs: Path, tmp_path: Path) -> None:
    program = programs / "kustomize"
    program.write_text("#!/bin/sh\n[ $1 = version ] && echo v5.7.1 && exit\necho 'no such patch' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(ProvisionError, match="no such patch"):
        ensure_kustomize(tmp_path / "cache", print).render(tmp_path)
