import io
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from devstack import provision as provision_module
from devstack.console import Console
from devstack.daprd_binary import DaprdBinary, Progress
from devstack.failures import ProvisionError
from devstack.layout import Layout, Ports
from devstack.provision import provision

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "home", tmp_path / "cache", Ports(8000))
    layout.make_directories()
    return layout


def test_a_disk_without_room_is_noticed_before_anything_is_fetched(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 42 * 1024 * 1024))
    screen = io.StringIO()

    with pytest.raises(ProvisionError, match=r"home has 42 MB left, 300 MB are needed.*TASKWIRE_HOME"):
        provision(layout, Console.on(screen))

    assert screen.getvalue() == ""


def test_each_program_is_a_step_and_a_daprd_passed_over_is_mentioned(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(_: Path, progress: Progress) -> DaprdBinary:
        progress("daprd on PATH (/usr/bin/daprd) skipped: it is 1.10.0, need 1.18.1 or newer")
        progress("building daprd: looking up modules")
        return DaprdBinary(Path("/daprd"), "1.18.1", "built")

    monkeypatch.setattr(provision_module, "ensure_daprd", found)
    monkeypatch.setattr(provision_module, "ensure_jars", lambda cache, _: cache / "jars")
    screen = io.StringIO()

    programs = provision(layout, Console.on(screen))

    assert programs.daprd == Path("/daprd")
    skipped, *steps = [line.split() for line in screen.getvalue().splitlines() if "PostgreSQL" not in line][1:]
    assert skipped[:4] == ["daprd", "on", "PATH", "(/usr/bin/daprd)"]
    assert steps[0][:5] == ["+", "Dapr", "sidecar", "program", "(1.18.1)"]
