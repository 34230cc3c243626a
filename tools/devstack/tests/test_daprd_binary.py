import multiprocessing
import re
import shutil
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tools.devstack.tests.fake_programs import BUILDS_A_FAKE, MODULE, SAYS_VERSION, fake_daprd, fake_go, script

from devstack import daprd_build
from devstack.daprd_binary import ensure_daprd
from devstack.failures import ProvisionError
from devstack.filelock import held

Usage = namedtuple("Usage", "total used free")
pytestmark = pytest.mark.usefixtures("module", "path_directory")


def test_the_daprd_named_by_the_environment_goes_before_all_others(
    tmp_path: Path, path_directory: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_daprd(path_directory / "daprd", "1.18.9")
    mine = fake_daprd(tmp_path / "mine", "1.19.0")
    monkeypatch.setenv("DAPRD", str(mine))

    found = ensure_daprd(cache, print)

    assert (found.path, found.version, found.origin) == (mine, "1.19.0", "$DAPRD")


def test_a_name_in_the_environment_is_looked_up_on_path(
    path_directory: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_daprd(path_directory / "my-daprd", "1.18.2")
    monkeypatch.setenv("DAPRD", "my-daprd")

    assert ensure_daprd(cache, print).path == path_directory / "my-daprd"


def test_what_was_built_before_goes_before_what_is_on_path(module: Path, path_directory: Path, cache: Path) -> None:
    fake_daprd(path_directory / "daprd", "1.18.9")
    built = fake_daprd(cache / "daprd" / daprd_build.source_key(module) / "daprd", "1.18.1")

    assert ensure_daprd(cache, print).path == built


def test_path_goes_before_the_dapr_cli(path_directory: Path, cache: Path) -> None:
    on_path = fake_daprd(path_directory / "daprd", "v1.18.9")
    fake_daprd(Path.home() / ".dapr" / "bin" / "daprd", "1.18.4")

    found = ensure_daprd(cache, print)

    assert (found.path, found.version) == (on_path, "1.18.9")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SAYS_VERSION.format(version="1.17.9"), "it is 1.17.9, need 1.18 or newer"),
        (SAYS_VERSION.format(version="edge"), "'edge' is no version"),
        ("#!/bin/sh\nexit 3\n", "does not answer --version (exit code 3)"),
        ("\x7fELF not really", "does not answer --version (Exec format error)"),
    ],
)
def test_a_daprd_that_will_not_do_is_passed_over_with_the_reason(
    text: str, reason: str, path_directory: Path, cache: Path
) -> None:
    script(path_directory / "daprd", text)
    good = fake_daprd(Path.home() / ".dapr" / "bin" / "daprd", "1.18.4")
    said: list[str] = []

    assert ensure_daprd(cache, said.append).path == good
    assert len(said) == 1
    assert reason in said[0]
    assert str(path_directory / "daprd") in said[0]


def test_a_daprd_named_by_the_environment_that_is_not_there_is_passed_over_with_the_reason(
    path_directory: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_daprd(path_directory / "daprd", "1.18.9")
    monkeypatch.setenv("DAPRD", "/nowhere/daprd")
    said: list[str] = []

    assert ensure_daprd(cache, said.append).origin == "on PATH"
    assert said == ["daprd $DAPRD (/nowhere/daprd) skipped: it does not answer --version (No such file or directory)"]


def _edit_sum(module: Path) -> None:
    (module / "go.sum").write_text((module / "go.sum").read_text() + "\n")


def _edit_mod(module: Path) -> None:
    (module / "go.mod").write_text((module / "go.mod").read_text() + "\n")


def _add_source(module: Path) -> None:
    (module / "more.go").write_text("package main\n")


@pytest.mark.parametrize("edit", [_edit_sum, _edit_mod, _add_source])
def test_any_change_of_the_sources_asks_for_another_binary(edit: Callable[[Path], None], module: Path) -> None:
    before = daprd_build.source_key(module)
    assert daprd_build.source_key(module) == before

    edit(module)

    assert daprd_build.source_key(module) != before


def test_another_processor_asks_for_another_binary(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for machine in ("x86_64", "aarch64"):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        keys.add(daprd_build.source_key(module))

    assert len(keys) == 2


def test_a_build_reports_what_go_does_and_leaves_only_the_binary(
    tmp_path: Path, path_directory: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daprd_build, "_PROGRESS_INTERVAL", 0.05)
    downloaded, compiled = (
        "building daprd: 1 modules downloaded",
        "building daprd: 1 packages compiled of about 1,500",
    )
    heard = {line: tmp_path / name for line, name in ((downloaded, "downloaded"), (compiled, "compiled"))}
    # Each of its words waits until the one before was passed on.
    until = "until [[ -e {} ]]; do sleep 0.02; done"
    fake_go(
        path_directory,
        f"echo 'go: downloading example.org/a v1.0.0' >&2; {until.format(heard[downloaded])}\n"
        f"echo unicode/utf8 >&2; {until.format(heard[compiled])}\n" + BUILDS_A_FAKE,
    )
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line in heard:
            heard[line].touch()

    found = ensure_daprd(cache, say)

    assert found.version == "1.18.1"
    assert {downloaded, compiled} <= set(said)
    assert sorted(path.name for path in cache.iterdir()) == ["daprd", "daprd.lock"]
    said.clear()
    assert ensure_daprd(cache, said.append).origin == "built before from tools/daprd"
    assert said == []


def test_a_built_daprd_that_no_longer_runs_is_built_again(module: Path, path_directory: Path, cache: Path) -> None:
    built = script(cache / "daprd" / daprd_build.source_key(module) / "daprd", "#!/bin/sh\nexit 1\n")
    inode = built.stat().st_ino
    fake_go(path_directory, BUILDS_A_FAKE)

    assert ensure_daprd(cache, print).path == built
    assert built.stat().st_ino != inode, "written into a file that a sidecar may be running"


def test_go_keeps_everything_inside_the_cache(path_directory: Path, cache: Path) -> None:
    fake_go(
        path_directory,
        f'for name in GOMODCACHE GOCACHE GOPATH GOTMPDIR; do [[ "${{!name}}" = {cache}/* ]] || '
        '{ echo "$name is ${!name}" >&2; exit 1; }; done\n' + BUILDS_A_FAKE,
    )

    assert ensure_daprd(cache, print).version == "1.18.1"


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _ensure_in_process(cache: Path) -> None:
    assert ensure_daprd(cache, print).version == "1.18.1"


def test_stacks_that_start_together_build_once(tmp_path: Path, path_directory: Path, cache: Path) -> None:
    builds = tmp_path / "builds"
    fake_go(path_directory, f"echo $$ >> {builds}; sleep 1\n" + BUILDS_A_FAKE)
    context = multiprocessing.get_context("fork")
    stacks = [context.Process(target=_ensure_in_process, args=(cache,)) for _ in range(3)]

    for stack in stacks:
        stack.start()
    for stack in stacks:
        stack.join(90)

    assert [stack.exitcode for stack in stacks] == [0, 0, 0]
    assert len(builds.read_text().split()) == 1


def test_a_stack_that_is_killed_while_it_builds_leaves_no_compiler_no_lock_and_no_half_a_binary(
    module: Path, tmp_path: Path, path_directory: Path, cache: Path
) -> None:
    compiler = tmp_path / "pid"
    fake_go(path_directory, f'echo half > "$out"; echo $$ > {compiler}.new; mv {compiler}{{.new,}}; exec sleep 600')
    stack = multiprocessing.get_context("fork").Process(target=_ensure_in_process, args=(cache,))
    stack.start()
    wait_for(compiler.exists)
    assert held(cache / "daprd.lock")

    stack.kill()
    stack.join(90)

    wait_for(lambda: not psutil.pid_exists(int(compiler.read_text())))
    assert not (cache / "daprd" / daprd_build.source_key(module) / "daprd").exists()
    wait_for(lambda: not held(cache / "daprd.lock"))
    fake_go(path_directory, BUILDS_A_FAKE)
    assert ensure_daprd(cache, print).version == "1.18.1"


@pytest.mark.parametrize(
    ("output", "why", "fix"),
    [
        (
            "go: example.org/a@v1: Get https://proxy/: dial tcp: lookup proxy: no such host",
            "could not be downloaded",
            "Check the network",
        ),
        ("write /x/a.o: no space left on device", "disk is full", "TASKWIRE_CACHE"),
        ("verifying m@v1: checksum mismatch", "not the one recorded in go.sum", "another network"),
        ("compile: signal: killed", "memory ran out", "Close other programs"),
        ("# taskwire/tools/daprd\n./main.go:9:1: undefined: x", "./main.go:9:1: undefined: x", "tools/daprd"),
    ],
)
def test_a_failed_build_says_what_kind_of_failure_it_was(
    output: str, why: str, fix: str, path_directory: Path, cache: Path
) -> None:
    fake_go(path_directory, f"printf '%s\\n' '{output}' >&2; exit 1")

    with pytest.raises(ProvisionError) as failed:
        ensure_daprd(cache, print)

    assert failed.value.what == "daprd could not be built"
    assert why in failed.value.why
    assert fix in failed.value.fix
    assert str(failed.value).count("\n") == 0


def test_a_full_disk_is_noticed_before_the_build(
    path_directory: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_go(path_directory, BUILDS_A_FAKE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10 * 1024**3, 0, 1024**3))

    with pytest.raises(ProvisionError, match=r"3 GB of disk .* has 1\.0 GB free\. Make room there"):
        ensure_daprd(cache, print)


def test_a_machine_that_is_not_linux_is_told_so_and_may_bring_its_own_daprd(
    path_directory: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    with pytest.raises(ProvisionError, match=r"runs on Linux .* this is Darwin"):
        ensure_daprd(cache, print)

    fake_daprd(path_directory / "daprd", "1.18.1")
    assert ensure_daprd(cache, print).origin == "on PATH"


def test_the_components_a_sidecar_loads_are_the_ones_linked_in() -> None:
    files = (MODULE.parents[1] / "components").glob("*.yaml")
    named = re.findall(
        r"^ *(?:type: pubsub\.|component: )(\S+)$", "\n".join(f.read_text() for f in files), re.MULTILINE
    )
    linked = (MODULE / "components.go").read_text()

    assert sorted(named) == ["kafka", "nameformat"]
    assert all(f'"{name}"' in linked for name in named)
