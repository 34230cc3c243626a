from pathlib import Path

import pytest

from cluster.programs import API_SERVER, DAPR, NODE, Program, found, missing

PROGRAMS = {program.name: program for program in (*NODE, *DAPR)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_pinned_by_a_module_of_ours_with_hashes(name: str) -> None:
    program = PROGRAMS[name]
    assert (program.source / "go.sum").exists()
    assert program.version.startswith("v") or program.pinned == ""
    assert program.package == "." or program.package.split("/cmd/")[0] in (program.source / "tools.go").read_text()


def test_all_of_kubernetes_is_of_one_version() -> None:
    text = (PROGRAMS["kubelet"].source / "go.mod").read_text()
    minor = PROGRAMS["kubelet"].version.removeprefix("v1.")
    staged = [line.split()[-1] for line in text.splitlines() if " => k8s.io/" in line]
    assert len(staged) > 25
    assert set(staged) == {f"v0.{minor}"}


def test_the_control_plane_is_of_the_version_of_the_sidecar() -> None:
    daprd = (PROGRAMS["operator"].source.parents[1] / "daprd" / "go.mod").read_text()
    assert f"github.com/dapr/dapr {PROGRAMS['operator'].version}\n" in daprd


def test_a_program_tells_its_version_where_its_linker_is_told_to() -> None:
    flags = PROGRAMS["kubectl"].linker_flags
    assert f"gitVersion={PROGRAMS['kubectl'].version} " in flags
    assert "gitMinor=34" in flags
    assert "{" not in flags


def test_what_a_program_is_made_of_decides_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "module"
    sources.mkdir()
    for name, content in (("go.mod", "module x\n"), ("go.sum", ""), ("main.go", "package main\n")):
        (sources / name).write_text(content)
    monkeypatch.setattr("cluster.programs.MODULES", tmp_path)
    program = Program("x", "module", ".")
    before = program.path(tmp_path)
    assert program.path(tmp_path) == before
    (sources / "main.go").write_text("package main // changed\n")
    assert program.path(tmp_path) != before


def test_only_what_is_not_there_is_missing(tmp_path: Path) -> None:
    assert missing(API_SERVER, tmp_path) == list(API_SERVER)
    there = found(API_SERVER, tmp_path)["etcd"]
    there.parent.mkdir(parents=True)
    there.touch()
    assert {program.name for program in missing(API_SERVER, tmp_path)} == {"kube-apiserver", "kubectl"}
