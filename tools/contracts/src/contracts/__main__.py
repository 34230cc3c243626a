"""`make contract` and its part of `make check`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from contracts.apis import APIS
from contracts.events import EVENTS
from contracts.files import differing, write_files
from contracts.kinds import Kind
from contracts.releases import ReleaseError, problems, release, released_contracts

REPOSITORY: Final = Path(__file__).resolve().parents[4]
SPECS: Final = REPOSITORY / "specs"
KINDS: Final = [EVENTS, *APIS]


def main(arguments: Sequence[str] | None = None, directory: Path = SPECS, kinds: Sequence[Kind] = KINDS) -> int:
    """Do what was asked; returns the exit code."""
    commands: dict[str, Callable[[Kind, Path], list[str]]] = {"write": _write, "check": _check, "release": _release}
    parser = argparse.ArgumentParser(prog="contracts", description=__doc__)
    parser.add_argument("command", choices=commands)
    parser.add_argument("contract", nargs="*", help=f"only these: {', '.join(kind.name for kind in kinds)}")
    asked = parser.parse_args(arguments)
    if unknown := {*asked.contract} - {kind.name for kind in kinds}:
        parser.error(f"there is no contract {', '.join(sorted(unknown))}")
    found = []
    for kind in kinds:
        if not asked.contract or kind.name in asked.contract:
            try:
                found += commands[asked.command](kind, directory)
            except ReleaseError as error:
                found += [f"{kind.name}: {line}" for line in str(error).splitlines()]
    for line in found:
        print(f"  \u2717 {line}", file=sys.stderr)  # noqa: T201
    return 1 if found else 0


def _write(kind: Kind, directory: Path) -> list[str]:
    for name in write_files(directory, kind.files()):
        _say(f"wrote {_shown(directory / name)}")
    return _breaking(kind, directory)


def _check(kind: Kind, directory: Path) -> list[str]:
    stale = [
        f"{_shown(directory / name)} is not what the code generates: run make contract and commit"
        for name in differing(directory, kind.files())
    ]
    return stale + _breaking(kind, directory)


def _release(kind: Kind, directory: Path) -> list[str]:
    write_files(directory, kind.files())
    path = release(directory / kind.released, kind.current(), kind.breaks, kind.version_is_in)
    if path is None:
        _say(f"{kind.name}: {kind.current().version} is released as it is")
    else:
        _say(f"released {_shown(path)}; commit it, and never edit it")
    return []


def _breaking(kind: Kind, directory: Path) -> list[str]:
    current = kind.current()
    released = released_contracts(directory / kind.released, current.major)
    found = list(problems(current, released, kind.breaks))
    if found:
        return [*found, kind.advice(current.major)]
    newest = released[-1] if released else None
    if newest and newest.version == current.version and newest != current:
        _say(f"{kind.name} differs from released {newest.version}: raise {kind.version_is_in} before the next release")
    return []


def _shown(path: Path) -> str:
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)


def _say(text: str) -> None:
    print(f"  {text}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
