"""The hash chain by itself."""

import hashlib
import json
from datetime import timedelta

import pytest
from pydantic import JsonValue

from audit_worker.trail.chain import (
    GENESIS,
    ChainFault,
    Head,
    actor_hash,
    content_hash,
    entry_hash,
    exact_object,
    verify_chain,
)
from audit_worker.trail.schemas import AuditEntryOut
from chassis.testing import MORNING

FIXED_HASH = "986dadc3bc498244e07edcb9898519f72c3bddbf5db6a9116879ab2596e3ee1d"
FIXED_HASH_OF_OWNER = "30591abbe0581dcf973e9bb3f5be69da56ac8908b3e04b0ba06b81f196554633"
FIXED_HASH_OF_BEFORE = "97e150fc5d1a75c3384e930ae648cf8a9e77e26b97ce3bf873c9e93bb017308a"


def make_entry(sequence: int, prev_hash: str, *, actor: str = "bob") -> AuditEntryOut:
    entry = AuditEntryOut(
        sequence=sequence,
        event_id=f"event-{sequence}",
        type="task.updated",
        task_id=2**63 - 1,
        task_version=sequence,
        owner_id="alice",
        actor=actor,
        changes={"title": {"old": "Milch", "new": "Öl \u2028 € 😀"}, "x": {"old": None, "new": 1.5}},
        task={"id": str(2**63 - 1), "version": sequence, "completed": False, "due_at": None},
        occurred_at=MORNING,
        corr_id="c-1",
        salt="0" * 32,
        actor_salt="1" * 32 if actor != "alice" else None,
        actor_hash=None,
        content_hash="0" * 64,
        recorded_at=MORNING.replace(microsecond=0),
        prev_hash=prev_hash,
        hash="0" * 64,
    )
    entry = entry.model_copy(update={"actor_hash": actor_hash(entry) if entry.actor_salt else None})
    entry = entry.model_copy(update={"content_hash": content_hash(entry)})
    return entry.model_copy(update={"hash": entry_hash(entry)})


def make_chain(length: int, after: Head = GENESIS) -> list[AuditEntryOut]:
    entries: list[AuditEntryOut] = []
    for sequence in range(after.sequence + 1, after.sequence + length + 1):
        entries.append(make_entry(sequence, entries[-1].hash if entries else after.hash))
    return entries


CONTENT = ("salt", "owner_id", "actor_hash", "changes", "task", "corr_id")
ACTOR = ("actor", "actor_salt")


def digest(members: dict[str, JsonValue]) -> str:
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def test_the_hashes_are_what_the_recipe_says() -> None:
    """Follow the recipe in chain.py with nothing but the standard library, from an entry as the API gives it."""
    [entry] = make_chain(1)
    item: dict[str, JsonValue] = json.loads(entry.model_dump_json())
    assert entry.actor_hash == digest({"salt": item["actor_salt"], "actor": item["actor"]})
    assert entry.content_hash == digest({name: item[name] for name in CONTENT})
    chained = {name: value for name, value in item.items() if name not in {*CONTENT, *ACTOR, "hash"}}
    for name in ("sequence", "task_id", "task_version"):
        chained[name] = str(chained[name])
    assert entry.hash == digest(chained)


def test_where_the_owner_made_the_change_the_recipe_is_as_it_ever_was() -> None:
    entry = make_entry(1, GENESIS.hash, actor="alice")
    item: dict[str, JsonValue] = json.loads(entry.model_dump_json())
    assert not {"actor_salt", "actor_hash"} & set(item)
    content = ("salt", "owner_id", "actor", "changes", "task", "corr_id")
    assert entry.content_hash == digest({name: item[name] for name in content})
    assert entry.hash == FIXED_HASH_OF_OWNER


ERASED_CONTENT = {
    "salt": "", "owner_id": "erased", "actor": "erased", "actor_salt": "", "changes": {}, "task": {}, "corr_id": "",
}  # fmt: skip


def test_the_rest_is_proven_when_only_the_actor_is_erased() -> None:
    entries = make_chain(3)
    entries[1] = entries[1].model_copy(update={"actor": "erased", "actor_salt": ""})
    assert verify_chain(entries) == []
    entries[1] = entries[1].model_copy(update={"task": {}})
    assert [fault.sequence for fault in verify_chain(entries)] == [2]


def test_the_chain_holds_when_content_is_erased() -> None:
    """Erasure takes the content and leaves its digest: what is chained does not change."""
    entries = make_chain(3)
    entries[1] = entries[1].model_copy(update=ERASED_CONTENT)
    assert verify_chain(entries) == []
    assert entries[1].hash == entry_hash(entries[1])


@pytest.mark.parametrize("kept", ERASED_CONTENT)
def test_an_entry_of_which_content_is_left_is_not_taken_for_erased(kept: str) -> None:
    entries = make_chain(3)
    entries[1] = entries[1].model_copy(update={k: v for k, v in ERASED_CONTENT.items() if k != kept})
    assert [fault.sequence for fault in verify_chain(entries)] == [2]


def test_the_hash_of_a_fixed_entry_never_changes() -> None:
    assert make_chain(1)[0].hash == FIXED_HASH


def test_an_entry_from_before_actors_had_a_digest_of_their_own_is_verified_as_it_was() -> None:
    entry = make_entry(1, GENESIS.hash).model_copy(update={"actor_salt": None, "actor_hash": None})
    entry = entry.model_copy(update={"content_hash": content_hash(entry)})
    entry = entry.model_copy(update={"hash": entry_hash(entry)})
    assert (entry.hash, verify_chain([entry])) == (FIXED_HASH_OF_BEFORE, [])


def test_an_untouched_chain_has_no_faults() -> None:
    entries = make_chain(5)
    assert verify_chain(entries) == []
    assert verify_chain(entries, head=Head(5, entries[-1].hash)) == []
    assert verify_chain([], head=GENESIS) == []


def test_a_part_of_a_chain_can_be_verified_from_a_known_entry() -> None:
    entries = make_chain(5)
    assert verify_chain(entries[3:], after=Head(3, entries[2].hash)) == []
    assert verify_chain(entries[3:]) == [
        ChainFault(4, "follows entry 0"),
        ChainFault(4, "prev_hash is not the hash of the entry before"),
    ]


TAMPERED: dict[str, object] = {
    "sequence": 7,
    "event_id": "event-9",
    "type": "task.created",
    "task_id": 2**63 - 2,
    "task_version": 9,
    "owner_id": "mallory",
    "actor": "mallory",
    "changes": {},
    "task": {"id": "1"},
    "occurred_at": MORNING + timedelta(microseconds=1),
    "corr_id": "c-2",
    "salt": "1" * 32,
    "actor_salt": "0" * 32,
    "actor_hash": "f" * 64,
    "content_hash": "f" * 64,
    "recorded_at": MORNING,
    "prev_hash": "f" * 64,
    "hash": "f" * 64,
}


def test_tampering_is_tried_with_every_field() -> None:
    assert set(TAMPERED) == set(AuditEntryOut.model_fields)


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("field", TAMPERED)
def test_tampering_with_any_field_of_any_entry_is_found_at_that_entry(field: str, position: int) -> None:
    entries = make_chain(3)
    entries[position] = entries[position].model_copy(update={field: TAMPERED[field]})
    faults = verify_chain(entries)
    assert faults
    assert faults[0].sequence == entries[position].sequence
    assert any("does not fit" in fault.problem for fault in faults)


def test_an_entry_that_cannot_be_hashed_is_a_fault() -> None:
    entries = make_chain(3)
    entries[1] = entries[1].model_copy(update={"changes": {"x": {"old": 2**53, "new": None}}})
    [fault] = verify_chain(entries)
    assert fault.sequence == 2
    assert "cannot be hashed" in fault.problem


def test_a_removed_entry_is_found() -> None:
    entries = make_chain(3)
    del entries[1]
    assert [fault.problem for fault in verify_chain(entries)] == [
        "follows entry 1",
        "prev_hash is not the hash of the entry before",
    ]


def test_swapped_and_repeated_entries_are_found() -> None:
    one, two, three = make_chain(3)
    assert verify_chain([one, three, two])
    assert verify_chain([one, two, two, three])


def test_entries_cut_off_at_the_end_are_found_against_the_head() -> None:
    entries = make_chain(3)
    head = Head(3, entries[-1].hash)
    assert verify_chain(entries[:2], head=head) == [ChainFault(3, "the chain ends at 2 and not at its head")]


def test_only_numbers_a_double_may_not_hold_exactly_become_text() -> None:
    safe: dict[str, JsonValue] = {"a": 2**53 - 1, "b": [-(2**53) + 1, 0.1, True, None, "7"]}
    assert exact_object(safe) == safe
    assert exact_object({"a": [{"b": 2**53}], "c": -(2**63), "d": float("inf"), "e": 1e16}) == {
        "a": [{"b": "9007199254740992"}],
        "c": "-9223372036854775808",
        "d": "inf",
        "e": "1e+16",
    }
