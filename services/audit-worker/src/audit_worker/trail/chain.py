"""The hash chain of the audit trail: how an entry's hash is made, and how a chain is verified.

The recipe, for whoever wants to check the trail with a program of their own. It needs nothing but the entries
as `GET /api/v1/audit/entries` gives them to an auditor, in the order of `sequence`:

1. `content_hash`: take `salt`, `owner_id`, `actor`, `changes`, `task` and `corr_id` as one JSON object, serialise it by
   RFC 8785 (JSON Canonicalization Scheme), and take the SHA-256 of those bytes, as 64 lower-case hexadecimal digits.
   Where there is an `actor_hash`, because somebody else than the owner made the change, take it in place of `actor`; it
   is the same of `{"salt": actor_salt, "actor": actor}`.
2. `hash`: take the members of the entry that are named neither in step 1 nor `hash` itself (`content_hash` and
   `prev_hash` are among them).
   Write `sequence`, `task_id` and `task_version` as strings of decimal digits (`7` becomes `"7"`): they are 64-bit
   integers, and RFC 8785 knows only what an IEEE 754 double holds exactly. Serialise and digest as above.
3. `prev_hash` is the `hash` of the entry before, 64 zeros for the first, whose `sequence` is 1; each further
   `sequence` is one more than the one before.

What is about people is in the content, which the chain holds only by its digest: it can be erased, its salt with it,
and the chain still holds. The salt is random, so what was erased cannot be found again by guessing. Where an owner was
erased, `owner_id` and `actor` are `erased`, `changes` and `task` are `{}`, `salt` and `corr_id` are empty: leave step 1
out for such an entry, and take its `content_hash` as it is. Where somebody else who had changed the task was erased,
`actor` is `erased` and `actor_salt` is empty: take the `actor_hash` as it is, and it still proves the rest. An entry
without one, from before there were any, has no `salt` then: nothing proves the rest of its content any more.

Times are text, RFC 3339 in UTC with six digits of a second and `Z` (`2026-03-01T08:30:00.123456Z`). Inside
`changes` and `task`, numbers of more than 2^53 - 1 either way, which a double may not hold exactly, were
turned into strings *before* the entry was stored; the recipe takes them as they are.

Whoever can rewrite the whole database can also recompute the whole chain: compare its head with a head that
was noted elsewhere.
"""

import hashlib
import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import rfc8785
from pydantic import JsonValue

from chassis.identity import ERASED
from task_events import utc_text

_MAX_EXACT: Final = 2**53 - 1
_UNPROVEN: Final = "the actor was erased, so nothing proves the rest of the content"


@dataclass(frozen=True)
class Head:
    """The newest link of a chain: what the next entry is chained to."""

    sequence: int
    hash: str


GENESIS: Final = Head(0, "0" * 64)
"""What the first entry is chained to."""


class ChainedEntry(Protocol):
    """An entry of the chain, wherever it was read from: a row, or a response of the API."""

    @property
    def sequence(self) -> int: ...  # noqa: D102
    @property
    def event_id(self) -> str: ...  # noqa: D102
    @property
    def type(self) -> str: ...  # noqa: D102
    @property
    def task_id(self) -> int: ...  # noqa: D102
    @property
    def task_version(self) -> int: ...  # noqa: D102
    @property
    def owner_id(self) -> str: ...  # noqa: D102
    @property
    def actor(self) -> str: ...  # noqa: D102
    @property
    def changes(self) -> Mapping[str, JsonValue]: ...  # noqa: D102
    @property
    def task(self) -> Mapping[str, JsonValue]: ...  # noqa: D102
    @property
    def occurred_at(self) -> datetime: ...  # noqa: D102
    @property
    def corr_id(self) -> str: ...  # noqa: D102
    @property
    def salt(self) -> str: ...  # noqa: D102
    @property
    def actor_salt(self) -> str | None: ...  # noqa: D102
    @property
    def actor_hash(self) -> str | None: ...  # noqa: D102
    @property
    def content_hash(self) -> str: ...  # noqa: D102
    @property
    def recorded_at(self) -> datetime: ...  # noqa: D102
    @property
    def prev_hash(self) -> str: ...  # noqa: D102
    @property
    def hash(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class ChainFault:
    """One place where a chain does not hold.

    Attributes:
        sequence: Of the entry where it shows.
        problem: What is wrong, for a person.
    """

    sequence: int
    problem: str


def entry_hash(entry: ChainedEntry) -> str:
    """Compute what the hash of an entry must be; its own `hash` is not looked at."""
    return _digest(
        {
            "sequence": str(entry.sequence),
            "event_id": entry.event_id,
            "type": entry.type,
            "task_id": str(entry.task_id),
            "task_version": str(entry.task_version),
            "occurred_at": utc_text(entry.occurred_at),
            "recorded_at": utc_text(entry.recorded_at),
            "content_hash": entry.content_hash,
            "prev_hash": entry.prev_hash,
        }
    )


def content_hash(entry: ChainedEntry) -> str:
    """Compute what the digest of an entry's content must be; its own `content_hash` is not looked at.

    Raises:
        ValueError: The content holds something that no stored entry can hold, so it was tampered with.
    """
    by: dict[str, JsonValue] = {"actor": entry.actor}
    return _digest(
        {
            "salt": entry.salt,
            "owner_id": entry.owner_id,
            **(by if entry.actor_hash is None else {"actor_hash": entry.actor_hash}),
            "changes": dict(entry.changes),
            "task": dict(entry.task),
            "corr_id": entry.corr_id,
        }
    )


def actor_hash(entry: ChainedEntry) -> str:
    """Compute what the digest of an entry's actor must be; its own `actor_hash` is not looked at."""
    return _digest({"salt": entry.actor_salt, "actor": entry.actor})


def new_salt() -> str:
    """Make a salt of an entry: 128 random bits, in hexadecimal digits."""
    return secrets.token_hex(16)


def _digest(members: dict[str, JsonValue]) -> str:
    return hashlib.sha256(rfc8785.dumps(members)).hexdigest()


def exact_object(members: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Give a JSON object that every reader reads alike: what a double may not hold exactly becomes text."""
    return {name: _exact(value) for name, value in members.items()}


def _exact(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return exact_object(value)
    if isinstance(value, list):
        return [_exact(member) for member in value]
    if isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= _MAX_EXACT):
        return str(value)
    return value


def verify_chain(
    entries: Iterable[ChainedEntry], *, after: Head = GENESIS, head: Head | None = None
) -> list[ChainFault]:
    """Find every place where a chain does not hold.

    Each entry is checked against its own hash and against the entry before, so one tampered entry does not
    hide, or accuse, the others. The content of entries that were erased cannot be checked.

    Args:
        entries: Ascending by sequence, without filter.
        after: What the first of them must be chained to; the beginning of the chain by default.
        head: What the last of them must be, when that is known: without it, entries cut off at the end go
            unnoticed.
    """
    faults: list[ChainFault] = []
    last = after
    for entry in entries:
        faults += [ChainFault(entry.sequence, problem) for problem in _problems(entry, last)]
        last = Head(entry.sequence, entry.hash)
    if head is not None and last != head:
        faults.append(ChainFault(head.sequence, f"the chain ends at {last.sequence} and not at its head"))
    return faults


def _problems(entry: ChainedEntry, last: Head) -> list[str]:
    problems = []
    if entry.sequence != last.sequence + 1:
        problems.append(f"follows entry {last.sequence}")
    if entry.prev_hash != last.hash:
        problems.append("prev_hash is not the hash of the entry before")
    if _is_erased(entry):
        return problems + _hash_problems(entry)
    try:
        intact = entry.content_hash == content_hash(entry) and _names_its_actor(entry)
    except ValueError as error:
        return [*problems, f"the content cannot be hashed: {error}"]
    if not intact:
        only_actor = entry.actor == ERASED and not entry.salt and entry.actor_hash is None
        problems.append(_UNPROVEN if only_actor else "the content does not fit its content_hash")
    return problems + _hash_problems(entry)


def _names_its_actor(entry: ChainedEntry) -> bool:
    """Tell whether the actor is who it was, or was erased; without a digest of its own the content tells."""
    if entry.actor_hash is None:
        return not entry.actor_salt
    return (entry.actor, entry.actor_salt) == (ERASED, "") or entry.actor_hash == actor_hash(entry)


def _is_erased(entry: ChainedEntry) -> bool:
    """Tell whether nothing is left of the content, so that there is nothing to check and nothing to be forged."""
    left = (entry.salt, entry.corr_id, dict(entry.changes), dict(entry.task), entry.owner_id, entry.actor)
    return left == ("", "", {}, {}, ERASED, ERASED) and not entry.actor_salt


def _hash_problems(entry: ChainedEntry) -> list[str]:
    return [] if entry.hash == entry_hash(entry) else ["the hash does not fit the entry"]
