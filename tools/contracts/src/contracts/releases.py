"""The released contracts: one file each, written once, compared with for ever."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import JsonValue

from contracts.alternatives import Schema


class ReleaseError(Exception):
    """A release cannot be made or read; the message says what to do."""


@dataclass(frozen=True)
class Contract:
    """What others build on, in one version.

    Attributes:
        version: `major.minor`.
        parts: What is promised, by name, e.g. the topic and the schema of its events.
    """

    version: str
    parts: Mapping[str, Schema]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a release.

        Raises:
            ReleaseError: The file is not what was released.
        """
        try:
            content: dict[str, JsonValue] = json.loads(path.read_bytes())
            digest, version = content.pop("sha256"), str(content.pop("contract"))
            contract = cls(version, {name: _an_object(part) for name, part in content.items()})
            untouched = contract.digest == digest and path.stem == f"{contract.major}.{contract.minor}"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReleaseError(f"{path.name} is not a released contract ({error!r}): restore it from git") from error
        if not untouched:
            raise ReleaseError(
                f"{path.name} was edited, and a release never is: restore it from git; "
                f"a new minor gets a new file (make contract RELEASE=1)"
            )
        return contract

    @property
    def major(self) -> int:
        """The first number of the version."""
        return self._numbers[0]

    @property
    def minor(self) -> int:
        """The second number of the version."""
        return self._numbers[1]

    @property
    def digest(self) -> str:
        """SHA-256 over the content, so that an edit cannot happen by accident."""
        return hashlib.sha256(json.dumps(self._content, sort_keys=True).encode()).hexdigest()

    @property
    def text(self) -> str:
        """The release file."""
        return json.dumps(self._content | {"sha256": self.digest}, indent=2, ensure_ascii=False) + "\n"

    @property
    def _numbers(self) -> tuple[int, int]:
        major, minor = self.version.split(".")
        return int(major), int(minor)

    @property
    def _content(self) -> dict[str, JsonValue]:
        return {"contract": self.version, **self.parts}


Breaks = Callable[[Contract, Contract], Iterable[str]]
"""Says, one line each, what in a contract breaks a released one of the same major: (current, released)."""


def released_contracts(directory: Path, major: int) -> list[Contract]:
    """Give the releases of a major, oldest first.

    Raises:
        ReleaseError: One was edited or is missing.
    """
    contracts = [Contract.read(path) for path in directory.glob("*.json")]
    ours = sorted((contract for contract in contracts if contract.major == major), key=lambda one: one.minor)
    for minor, contract in enumerate(ours):
        if contract.minor != minor:
            raise ReleaseError(f"{major}.{minor}.json is missing, but {contract.version}.json is there: restore it")
    return ours


def problems(current: Contract, released: list[Contract], breaks: Breaks) -> Iterator[str]:
    """Say, one line each, why the current contract may not follow the released ones."""
    if released and current.minor < released[-1].minor:
        yield f"contract version {current.version}: {released[-1].version} is released already, and versions only grow"
    told: set[str] = set()
    for contract in released:
        for violation in breaks(current, contract):
            if violation not in told:
                told.add(violation)
                yield f"{violation}  since {contract.version}"


def release(directory: Path, current: Contract, breaks: Breaks, version_is_in: str) -> Path | None:
    """Write the current contract down as released.

    Returns:
        The file, or None when this very contract is released already.

    Raises:
        ReleaseError: Another contract was released under this version, or this one breaks a released one.
    """
    path = directory / f"{current.version}.json"
    released = released_contracts(directory, current.major)
    if current in released:
        return None
    if path.exists():
        raise ReleaseError(f"{current.version} is released already: raise {version_is_in} first")
    if found := list(problems(current, released, breaks)):
        raise ReleaseError("\n".join(found))
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(current.text, encoding="utf-8")
    return path


def _an_object(part: JsonValue) -> Schema:
    if not isinstance(part, dict):
        raise TypeError("its parts must be objects")
    return part
