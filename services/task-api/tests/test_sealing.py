"""Sealed texts: only what was given out opens, to the letter."""

import base64
import secrets
import string
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.testing import bearer, settings_for
from task_api.sealing import BrokenSealError, Seal
from task_api.settings import TaskApiSettings

TASKS, ALICE = "/api/v1/tasks", bearer("alice")
CURSORS = secrets.token_urlsafe(32)
SECRET, PURPOSE = b"a secret of thirty-two bytes long", b"a test"


def bytes_of(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def other_spellings(text: str) -> list[str]:
    """Texts that stand for the same bytes: the last letter may have bits to spare, padding may be written or not."""
    endings = [text[:-1] + last for last in string.ascii_letters + string.digits + "-_" if last != text[-1]]
    padded = [text + "=" * (-len(text) % 4)] if len(text) % 4 else []
    return [other for other in (*endings, *padded) if bytes_of(other.rstrip("=")) == bytes_of(text)]


@settings(deadline=None)
@given(content=st.binary(max_size=80), bound_to=st.binary(max_size=20))
def test_what_was_sealed_opens_with_the_same_secret_purpose_and_binding_alone(content: bytes, bound_to: bytes) -> None:
    text = Seal(SECRET, PURPOSE).close(content, bound_to=bound_to)
    assert Seal(SECRET, PURPOSE).open(text, bound_to=bound_to) == content
    assert not set(text) - set(string.ascii_letters + string.digits + "-_")
    for stranger, other in (
        (Seal(SECRET + b"!", PURPOSE), bound_to),
        (Seal(SECRET, PURPOSE + b"!"), bound_to),
        (Seal(SECRET, PURPOSE), bound_to + b"!"),
    ):
        with pytest.raises(BrokenSealError):
            stranger.open(text, bound_to=other)


@settings(deadline=None)
@given(content=st.binary(max_size=20), data=st.data())
def test_no_bit_of_a_sealed_text_can_be_changed(content: bytes, data: st.DataObject) -> None:
    seal = Seal(SECRET, PURPOSE)
    sealed = bytearray(bytes_of(seal.close(content)))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BrokenSealError):
        seal.open(base64.urlsafe_b64encode(sealed).decode().rstrip("="))


@pytest.mark.parametrize("text", ["", "A", "AA", "=", "é", "\x00", "\ud800", "A" * 22, "A" * 128, "AAA A", "+/+/"])
def test_what_is_no_sealed_text_does_not_open(text: str) -> None:
    with pytest.raises(BrokenSealError):
        Seal(SECRET, PURPOSE).open(text)


@pytest.mark.parametrize("length", range(6))
def test_only_the_spelling_that_was_given_out_opens(length: int) -> None:
    seal = Seal(SECRET, PURPOSE)
    text = seal.close(b"x" * length)
    others = other_spellings(text)
    assert bool(others) == (len(text) % 4 != 0)
    for other in others:
        with pytest.raises(BrokenSealError):
            seal.open(other)


async def test_a_cursor_of_a_list_has_one_spelling(client: httpx2.AsyncClient) -> None:
    tried = 0
    for length in (1, 2, 3):  # with one of them at least, the last letter has bits to spare
        for _ in range(2):
            body = {"title": "x" * length, "tags": [str(length)]}
            assert (await client.post(TASKS, json=body, headers=ALICE)).status_code == 201
        query = {"limit": "1", "sort": "title", "tag": str(length)}
        cursor = (await client.get(TASKS, params=query, headers=ALICE)).json()["next_cursor"]
        assert (await client.get(TASKS, params=query | {"cursor": cursor}, headers=ALICE)).status_code == 200
        for other in other_spellings(cursor):
            response = await client.get(TASKS, params=query | {"cursor": other}, headers=ALICE)
            assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor"), other
            tried += 1
    assert tried


def test_in_production_the_secret_of_cursors_must_be_set(production: dict[str, Any]) -> None:
    for secret, complaint in ((None, "set TASKWIRE_CURSOR_SECRET"), (secrets.token_urlsafe(15), "at least 32 bytes")):
        with pytest.raises(ValueError, match=complaint):
            settings_for(TaskApiSettings, **production | {"cursor_secret": secret})
    assert settings_for(TaskApiSettings, **production | {"cursor_secret": CURSORS}).cursor_key == CURSORS.encode()
