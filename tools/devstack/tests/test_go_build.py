"""Programs built with Go, whichever they are: whole or not at all, and in words when not."""

from pathlib import Path

import pytest
from tools.devstack.tests.fake_programs import fake_go

from devstack.failures import ProvisionError
from devstack.go_build import GoProgram, compile_program

SOON = 60.0


@pytest.fixture
def program(tmp_path: Path) -> GoProgram:
    source = tmp_path / "source"
    source.mkdir()
    return GoProgram("etcd", source, "example.org/etcd", ("-trimpath",), "-s -X a.b=1 2", "Undo local changes")


def test_a_program_is_built_where_it_is_pinned_and_appears_whole(tmp_path: Path, program: GoProgram) -> None:
    told = tmp_path / "told"
    go = fake_go(
        tmp_path / "bin",
        f'{{ pwd; echo "$GOCACHE $GOTOOLCHAIN $CGO_ENABLED"; echo "${{@:3}}"; }} > {told}; echo > "$out"',
    )
    destination = tmp_path / "cache" / "etcd"
    compile_program(go, program, destination, timeout=SOON, places={"GOCACHE": "/elsewhere"})
    assert told.read_text().splitlines() == [str(program.source), "/elsewhere local 0", "example.org/etcd"]
    assert [file.name for file in destination.parent.iterdir()] == ["etcd"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("write: no space left on device", "etcd could not be built: the disk is full"),
        ("dial tcp: lookup proxy: no such host", "etcd could not be built: its modules could not be downloaded"),
        ("verifying module: checksum mismatch", "not the one recorded in go.sum"),
        ("main.go:3: undefined: x", r"go said: main.go:3: undefined: x\. Undo local changes"),
    ],
)
def test_what_went_wrong_is_told_and_nothing_is_left(tmp_path: Path, program: GoProgram, said: str, words: str) -> None:
    go = fake_go(tmp_path / "bin", f'echo half > "$out"; echo "{said}" >&2; exit 1')
    destination = tmp_path / "cache" / "etcd"
    with pytest.raises(ProvisionError, match=words):
        compile_program(go, program, destination, timeout=SOON)
    assert list(destination.parent.iterdir()) == []


def test_a_build_that_does_not_end_is_given_up(tmp_path: Path, program: GoProgram) -> None:
    go = fake_go(tmp_path / "bin", 'echo half > "$out"; exec sleep 300')
    with pytest.raises(ProvisionError, match="etcd could not be built: it took longer than 1 s"):
        compile_program(go, program, tmp_path / "cache" / "etcd", timeout=1.0)
    assert list((tmp_path / "cache").iterdir()) == []
