"""What must be on this machine before anything can start: programs in the cache, room on the disk."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devstack.console import Console
from devstack.daprd_binary import ensure_daprd
from devstack.failures import ProvisionError
from devstack.jars import ensure_jars
from devstack.layout import Layout
from devstack.postgres import MAJOR, binaries

_MEGABYTE: Final = 1024 * 1024
_ROOM: Final[Mapping[str, int]] = {"home": 300, "cache": 200}


@dataclass(frozen=True)
class Programs:
    """Where the programs are.

    Attributes:
        jars: Directory with Kafka's jars.
        daprd: The Dapr sidecar.
    """

    jars: Path
    daprd: Path


def provision(layout: Layout, console: Console) -> Programs:
    """Find, download or build every program the stack needs; takes no time when that was done before.

    Raises:
        ProvisionError: Something cannot be had; says what, why and what to do.
    """
    _require_room(layout)
    with console.step(f"PostgreSQL {MAJOR} programs"):
        binaries()
    with console.step("Kafka programs") as step:

        def progress(done: int, total: int) -> None:
            step.detail = f"jar {done} of {total}"

        jars = ensure_jars(layout.cache, progress)
        step.detail = ""
    with console.step("Dapr sidecar program") as step:

        def note(text: str) -> None:
            # A candidate passed over is worth a line that stays; progress of a build is not.
            if "skipped" in text:
                console.say(f"    {text}")
            else:
                step.detail = text.removeprefix("building daprd: ")

        daprd = ensure_daprd(layout.cache, note)
        step.detail = daprd.version
    return Programs(jars, daprd.path)


def _require_room(layout: Layout) -> None:
    for name, directory in (("home", layout.home), ("cache", layout.cache)):
        free = shutil.disk_usage(directory).free // _MEGABYTE
        if free < _ROOM[name]:
            raise ProvisionError(
                "there is not enough room on the disk",
                f"{directory} has {free} MB left, {_ROOM[name]} MB are needed",
                f"Free some, or move it with TASKWIRE_{name.upper()}",
            )
