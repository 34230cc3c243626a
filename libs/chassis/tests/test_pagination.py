"""Cursors and pages."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import InvalidInputError
from chassis.pagination import MAX_BIGINT, Page, decode_cursor, encode_cursor


@given(st.integers(min_value=0, max_value=MAX_BIGINT))
def test_a_cursor_gives_back_its_position(position: int) -> None:
    assert decode_cursor(encode_cursor(position)) == position


def test_no_cursor_is_no_position() -> None:
    assert decode_cursor(None) is None


@given(st.text(max_size=200))
def test_any_other_text_is_refused_and_never_crashes(text: str) -> None:
    try:
        position = decode_cursor(text)
    except InvalidInputError:
        return
    assert position is not None
    assert 0 <= position <= MAX_BIGINT


@pytest.mark.parametrize(
    "content", ['{"after": -1}', '{"after": 1e9}', '{"after": "7"}', '{"after": true}', "[7]", "7", "{}", "{"]
)
def test_a_cursor_with_other_content_is_refused(content: str) -> None:
    with pytest.raises(InvalidInputError, match="cursor"):
        decode_cursor(base64.urlsafe_b64encode(content.encode()).decode())


def test_a_position_beyond_any_id_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        decode_cursor(encode_cursor(MAX_BIGINT + 1))


def test_a_page_shows_a_total_only_when_it_was_asked_for() -> None:
    assert Page[int](items=[1], next_cursor=None).model_dump() == {"items": [1], "next_cursor": None}
    assert Page[int](items=[], next_cursor=None, total=0).model_dump()["total"] == 0
