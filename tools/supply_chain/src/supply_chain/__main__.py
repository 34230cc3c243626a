"""`python -m supply_chain advisories|secrets|history`: 0 when all is well, 1 when something must be repaired."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from supply_chain import exceptions
from supply_chain.advisories import audit, index_service, locked
from supply_chain.secrets_scan import ScanError, judge, scan_history, scan_tracked

_REPOSITORY: Final = Path(__file__).resolve().parents[4]
_EXCEPTIONS: Final = Path(__file__).resolve().parents[2] / "exceptions.toml"
_SHOWN: Final = 12


def main(arguments: Sequence[str]) -> int:
    """Do one check."""
    match arguments:
        case ["advisories"]:
            return _advisories()
        case ["secrets" | "history" as what]:
            return _secrets(whole_history=what == "history")
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2


def _advisories() -> int:
    accepted = exceptions.read(_EXCEPTIONS, kind="advisory", subject="package", finding="id")
    cache = Path(os.environ.get("TASKWIRE_CACHE") or Path.home() / ".cache" / "taskwire") / "advisories"
    dependencies = locked(_REPOSITORY / "uv.lock")
    verdict = audit(dependencies, index_service(cache), accepted)
    if verdict.unreachable is not None:
        _say(f"!! NOT CHECKED for known vulnerabilities, the index cannot be asked: {verdict.unreachable}")
    if verdict.unknown:
        names = ", ".join(verdict.unknown[:_SHOWN]) + (", …" if verdict.unknown[_SHOWN:] else "")
        _say(f"!! NOT CHECKED for known vulnerabilities, not known to the index: {len(verdict.unknown)}: {names}")
    _say(f"   {verdict.checked} of {len(dependencies)} dependencies checked")
    return _end(verdict.problems)


def _secrets(*, whole_history: bool) -> int:
    accepted, past = (
        exceptions.read(_EXCEPTIONS, kind=kind, subject="path", finding="value") for kind in ("secret", "past_secret")
    )
    try:
        if whole_history:
            return _end(judge(scan_history(_REPOSITORY), accepted, past))
        return _end([*judge(scan_tracked(_REPOSITORY), accepted), *accepted.stale()])
    except ScanError as error:
        return _end([f"the scan for secrets failed: {error}"])


def _end(problems: Sequence[str]) -> int:
    for problem in problems:
        _say(f"✗ {problem}")
    return 1 if problems else 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
