"""Whom PostgreSQL runs as: it refuses root, so under root it becomes an unprivileged user."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devstack.failures import ProvisionError

_UNPRIVILEGED_USER: Final = "nobody"
_CAP_DAC_OVERRIDE: Final = 1
_CAP_DAC_READ_SEARCH: Final = 2


@dataclass(frozen=True)
class Identity:
    """A user to become before exec.

    Attributes:
        uid: User id.
        gid: Group id.
        capability: The one capability kept, where that user could not reach its files otherwise
            (a home below /root); None when it can.
    """

    uid: int
    gid: int
    capability: int | None

    def owns(self, path: Path) -> None:
        """Make this user the owner of a file or directory."""
        os.chown(path, self.uid, self.gid)


def unprivileged(*needed: Path) -> Identity | None:
    """The user to run a server as that must reach these paths; None when we are not root anyway.

    Keeping a capability is what lets data stay in TASKWIRE_HOME and programs in the virtual environment even below
    a private directory, without opening that directory to anyone.

    Raises:
        ProvisionError: There is no such user, or it has no way to the paths.
    """
    if os.geteuid() != 0:
        return None
    try:
        user = pwd.getpwnam(_UNPRIVILEGED_USER)
    except KeyError as error:
        raise ProvisionError(
            "PostgreSQL cannot be started",
            f"it refuses to run as root, and there is no user '{_UNPRIVILEGED_USER}' to run it as",
            "Run make as an ordinary user",
        ) from error
    blocked = next((path for path in needed if not _reachable(path, user.pw_uid, user.pw_gid)), None)
    if blocked is None:
        return Identity(user.pw_uid, user.pw_gid, None)
    held = _held_capabilities()
    for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        if held >> capability & 1:
            return Identity(user.pw_uid, user.pw_gid, capability)
    raise ProvisionError(
        "PostgreSQL cannot be started",
        f"it refuses to run as root, and the user '{_UNPRIVILEGED_USER}' has no access to {blocked}",
        "Run make as an ordinary user, or keep the checkout and TASKWIRE_HOME outside private directories",
    )


def _reachable(path: Path, uid: int, gid: int) -> bool:
    return all(_searchable(parent.stat(), uid, gid) for parent in path.resolve().parents)


def _searchable(directory: os.stat_result, uid: int, gid: int) -> bool:
    if directory.st_uid == uid:
        return bool(directory.st_mode & stat.S_IXUSR)
    if directory.st_gid == gid:
        return bool(directory.st_mode & stat.S_IXGRP)
    return bool(directory.st_mode & stat.S_IXOTH)


def _held_capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
