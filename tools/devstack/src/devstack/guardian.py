"""Outlives the supervisor by a moment, to end what a killed supervisor could not.

Each part dies with the supervisor by itself (see launch.py); processes that a part started do not. This one holds
the other end of a pipe: when it closes without a word, every group named on it and not taken back is killed.

Run as a script (`python -I -S guardian.py`): small, with nothing imported that could fail.
"""

import os
import signal
import sys
from collections.abc import Iterable


def watch(lines: Iterable[str]) -> set[int]:
    """Read `+pid` and `-pid` lines to their end; returns the groups that are left."""
    groups: set[int] = set()
    for line in lines:
        sign, number = line[:1], int(line[1:])
        if sign == "+":
            groups.add(number)
        else:
            groups.discard(number)
    return groups


def main() -> None:
    """Watch standard input, then kill what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for group in watch(sys.stdin):
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
