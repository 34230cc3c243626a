"""Becomes another program, tied to the life of the process that asked for it.

Run as a script (`python -I -S launch.py …`), never imported by the supervisor: what it does must happen in the
new process, between fork and exec, where running Python of a threaded parent is not safe.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def _become(uid: int, gid: int, capability: int) -> None:
    """Give up root for good, keeping one capability (or none, when negative)."""
    if capability >= 0:
        _check(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "prctl")
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if capability >= 0:
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        sets = (ctypes.c_uint32 * 6)(*([1 << capability] * 3), 0, 0, 0)
        _check(_libc.capset(header, sets), "capset")
        # Ambient, or the capability would be gone with exec.
        _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0), "prctl")


def main(arguments: list[str]) -> None:
    """Exec `arguments[4:]` after `parent uid gid capability` (uid -1: stay who we are)."""
    parent, uid, gid, capability = (int(value) for value in arguments[:4])
    if uid >= 0:
        _become(uid, gid, capability)
    # After the change of user, which clears it.
    _check(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "prctl")
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")
    command = arguments[4:]
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
