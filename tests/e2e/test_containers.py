"""What runs in the containers of docker-compose.yml, as the kernel sees it."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from containers.container_stack import ContainerStack
from devstack.services import SERVICES

if TYPE_CHECKING:
    from devstack.running_stack import RunningStack

pytestmark = pytest.mark.e2e
USER = "10001"
INSTALLERS = ("apt", "apt-get", "pip", "pip3", "uv", "gcc", "cc", "make")
ROOT_ONLY = "who may do what inside is told of containers alone: make test STACK=containers"


@pytest.fixture
def inside(stack: "RunningStack") -> Mapping[str, Path]:
    """The /proc directory of each service and each sidecar."""
    if not isinstance(stack, ContainerStack):
        pytest.skip(ROOT_ONLY)
    names = [name for service in SERVICES for name in (service.name, service.sidecar)]
    return {name: Path("/proc") / str(stack.pid(name)) for name in names}


def status(process: Path) -> dict[str, list[str]]:
    lines = (line.partition(":") for line in (process / "status").read_text().splitlines())
    return {name: value.split() for name, _, value in lines}


def test_services_and_sidecars_are_nobody_and_can_become_nobody_else(inside: Mapping[str, Path]) -> None:
    for name, process in inside.items():
        told = status(process)
        assert "0" not in told["Uid"] + told["Gid"], name
        assert {told[kind][0] for kind in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}, name
        assert told["NoNewPrivs"] == ["1"], name
    assert {tuple(status(inside[service.name])["Uid"]) for service in SERVICES} == {(USER,) * 4}


def test_their_files_are_read_only(inside: Mapping[str, Path]) -> None:
    for name, process in inside.items():
        mounts = [line.split() for line in (process / "mounts").read_text().splitlines()]
        options = {point: set(words.split(",")) for _, point, _, words, *_ in mounts}
        assert "ro" in options["/"], name
        assert options["/tmp"] >= {"rw", "noexec", "nosuid", "nodev"}, name  # noqa: S108


def test_the_image_of_a_service_has_nothing_that_installs_builds_or_runs_as_somebody_else(
    inside: Mapping[str, Path],
) -> None:
    for service in SERVICES:
        root = inside[service.name] / "root"
        found = [
            name
            for name in INSTALLERS
            for place in ("bin", "usr/bin", "usr/local/bin", "app/bin")
            if os.path.lexists(root / place / name)
        ]
        assert found == []
        assert [path for path in files(root) if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)] == []


def files(root: Path) -> Iterator[Path]:
    for top in ("usr", "app", "etc", "var", "opt"):
        for directory, _, names in os.walk(root / top):
            yield from (Path(directory) / name for name in names)
