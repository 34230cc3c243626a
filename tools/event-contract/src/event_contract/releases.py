"""The released contracts: one file each, written once, compared with for ever."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import JsonValue

from event_contract.alternatives import Schema
from event_contract.compatibility import breaking_changes
from event_contract.violations import BOTH, Rule, Violation


class ReleaseError(Exception):
    """A release cannot be made or read; the message says what to do."""


@dataclass(frozen=True)
class Contract:
    """What consumers of a contract version build on.

    Attributes:
        version: `major.minor`.
        topic: Name, key and number of partitions. More partitions move keys to other partitions, so the order per
            task would not hold across the change.
        schema: The envelope's JSON Schema.
    """

    version: str
    topic: Schema
    schema: Schema

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a release.

        Raises:
            ReleaseError: The file is not what was released.
        """
        try:
            content: Schema = json.loads(path.read_bytes())
            topic, schema = content["topic"], content["schema"]
            contract = cls(str(content["contract"]), *_objects(topic, schema))
        except (ValueError, KeyError, TypeError) as error:
            raise ReleaseError(f"{path.name} is not a released contract ({error!r}): restore it from git") from error
        if content.get("sha256") != contract.digest or path.stem != contract.version:
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

    def breaks(self, released: "Contract") -> list[Violation]:
        """Say what in this contract breaks a released one of the same major."""
        found = [
            Violation(f"topic.{name}", Rule.TOPIC_CHANGED, f"was {value}, is {self.topic.get(name)}", BOTH)
            for name, value in released.topic.items()
            if value != self.topic.get(name)
        ]
        return found + breaking_changes(released.schema, self.schema)

    @property
    def _numbers(self) -> tuple[int, int]:
        major, minor = self.version.split(".")
        return int(major), int(minor)

    @property
    def _content(self) -> Schema:
        return {"contract": self.version, "topic": self.topic, "schema": self.schema}


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


def problems(current: Contract, released: list[Contract]) -> Iterator[str]:
    """Say, one line each, why the current contract may not follow the released ones."""
    if released and current.minor < released[-1].minor:
        yield f"contract version {current.version}: {released[-1].version} is released already, and versions only grow"
    told: set[Violation] = set()
    for contract in released:
        for violation in current.breaks(contract):
            if violation not in told:
                told.add(violation)
                yield f"{violation}  since {contract.version}"


def release(directory: Path, current: Contract) -> Path:
    """Write the current contract down as released.

    Raises:
        ReleaseError: This version was released before, or the contract breaks a released one.
    """
    path = directory / f"{current.version}.json"
    released = released_contracts(directory, current.major)
    if path.exists():
        raise ReleaseError(
            f"{current.version} is released already: raise CONTRACT_VERSION (task_events/models.py) first"
        )
    if found := list(problems(current, released)):
        raise ReleaseError("\n".join(found))
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(current.text, encoding="utf-8")
    return path


def _objects(topic: JsonValue, schema: JsonValue) -> tuple[Schema, Schema]:
    if not (isinstance(topic, dict) and isinstance(schema, dict)):
        raise TypeError("topic and schema must be objects")
    return topic, schema
