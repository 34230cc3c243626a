"""`make contract` and its part of `make check`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from event_contract.files import current_contract, differing, generated_files, write_files
from event_contract.releases import ReleaseError, problems, release, released_contracts

REPOSITORY: Final = Path(__file__).resolve().parents[4]
SPECS: Final = REPOSITORY / "specs" / "events"
_RELEASED: Final = "released"


def main(arguments: Sequence[str] | None = None, directory: Path = SPECS) -> int:
    """Do what was asked; returns the exit code."""
    commands: dict[str, Callable[[Path], list[str]]] = {"write": _write, "check": _check, "release": _release}
    parser = argparse.ArgumentParser(prog="event_contract", description=__doc__)
    parser.add_argument("command", choices=commands)
    try:
        found = commands[parser.parse_args(arguments).command](directory)
    except ReleaseError as error:
        found = str(error).splitlines()
    for line in found:
        print(f"  \u2717 {line}", file=sys.stderr)  # noqa: T201
    return 1 if found else 0


def _write(directory: Path) -> list[str]:
    for name in write_files(directory, generated_files()):
        _say(f"wrote {_shown(directory / name)}")
    return _breaking(directory)


def _check(directory: Path) -> list[str]:
    stale = [
        f"{_shown(directory / name)} is not what the code generates: run make contract and commit"
        for name in differing(directory, generated_files())
    ]
    return stale + _breaking(directory)


def _release(directory: Path) -> list[str]:
    write_files(directory, generated_files())
    _say(f"released {_shown(release(directory / _RELEASED, current_contract()))}; commit it, and never edit it")
    return []


def _breaking(directory: Path) -> list[str]:
    current = current_contract()
    released = released_contracts(directory / _RELEASED, current.major)
    found = list(problems(current, released))
    if found:
        advice = (
            f"consumers of released contract {current.major}.x break. Make the change additive (a new optional field "
            f"beside the old one), or start contract {current.major + 1}.0: docs/events.md, Compatibility"
        )
        return [*found, advice]
    newest = released[-1] if released else None
    if newest and newest.version == current.version and newest != current:
        _say(f"the contract differs from released {newest.version}: raise CONTRACT_VERSION before the next release")
    return []


def _shown(path: Path) -> str:
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)


def _say(text: str) -> None:
    print(f"  {text}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
