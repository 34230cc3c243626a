"""The search: which words find what, in which order; whatever others own, and whatever is typed."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from itertools import count
from typing import Any

import asyncpg
import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chassis.testing import bearer
from task_api.tasks.listing import split_words

TASKS = "/api/v1/tasks"
ALICE, BOB = bearer("alice"), bearer("bob")
LONG = "ab" * 40
Item = dict[str, Any]

# Titles, and the words that a search is made of, whole or cut.
ODD = [
    "milk", "Milky WAY", "ÄPFEL äpfel", "straße STRASSE", "İstanbul \u0131s\u0131", "ﬁle ﬂow", "e\u0301te\u0301 été",
    "אבא בבית", "مرحبا بالعالم", "\u202emilk", "買い物 リスト", "牛乳を買う", "🛒 milk", "🛒", "👩‍👩‍👧 family",
    "\u200b", "state-of-the-art", "see a.example/b?c=d&e", "bob@mail.example", "1e5 3.14 -7 0x1F", "a & | b", "(x:*)",
    "<->", "o'clock", "back\\slash", "100%_sure", "don't 'quote' \"me\"", "and or not", "a", "ab", "abc", "x" * 200,
    LONG, LONG + "cd", LONG + "ce", "\U0001d518" * 180, "\U0010fffd", "word₁ word²", "\u00a0nbsp\u2003em",
    "a_b __init__", "#tag @you",
]  # fmt: skip


async def create(client: httpx2.AsyncClient, headers: dict[str, str] = ALICE, **fields: object) -> int:
    response = await client.post(TASKS, json={"title": "x"} | fields, headers=headers)
    assert response.status_code == 201, response.text
    task_id: int = response.json()["id"]
    return task_id


async def found(
    client: httpx2.AsyncClient, headers: dict[str, str] = ALICE, **query: str | int | list[str]
) -> list[int]:
    response = await client.get(TASKS, params={"limit": 200, **query}, headers=headers)
    assert response.status_code == 200, response.text
    return [task["id"] for task in response.json()["items"]]


@pytest.fixture(params=["an index", "every task"])
async def connection(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Has requests search by an index alone, or without one: tables of tests are small enough for either."""
    connection = await asyncpg.connect(database_url)
    name = await connection.fetchval("SELECT quote_ident(current_database())")
    off = ["enable_seqscan", "enable_indexscan"] if request.param == "an index" else ["enable_bitmapscan"]
    for setting in off:
        await connection.execute(f"ALTER DATABASE {name} SET {setting} = off")
    yield connection
    await connection.close()


@pytest.fixture
async def odd(connection: asyncpg.Connection, client: httpx2.AsyncClient) -> None:
    """Tasks of odd words, in titles, descriptions and tags; the same for Bob, who must never be seen."""
    for number, words in enumerate(ODD):
        tags = [word[:50] for word in ODD[number % 7 :: 7] if word.strip("\u200b\u202e")]
        for user in (ALICE, BOB):
            await create(client, user, title=words, description=ODD[number * 5 % len(ODD)], tags=tags[:3])
    deleted = await create(client, title="milk", tags=["milk"])
    await client.delete(f"{TASKS}/{deleted}", headers=ALICE)


async def as_before(connection: asyncpg.Connection, words: Sequence[str], tags: Sequence[str]) -> list[int]:
    """Search as revision 0002 did, by the whole words of `search`."""
    rows = await connection.fetch(
        r"""
        SELECT id FROM tasks, to_tsquery('simple', $1) AS words
        WHERE owner_id = 'alice' AND deleted_at IS NULL AND search @@ words AND tags @> $2
        ORDER BY ts_rank(search, words) DESC, id DESC
        """,
        " & ".join(f"'{word}':*" for word in words),
        list(tags),
    )
    return [row["id"] for row in rows]


_spaced = " ".join
CUT = st.builds(lambda word, end: word[:end], st.sampled_from(" ".join(ODD).split()), st.integers(1, 90))
TYPED = st.one_of(
    st.lists(CUT, min_size=1, max_size=4).map(_spaced),
    st.lists(st.sampled_from(["a", "m", "x", "1", "é", "🛒", "&", "|", "!", ":*", "'", "\\"]), max_size=9).map(_spaced),
    st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20),
).filter(lambda text: len(text) <= 200)  # fmt: skip


@given(q=TYPED, tag=st.sampled_from([None, None, "milk", "אבא בבית", "o'clock"]))
@example(q="a b c d e f g h i j", tag=None)
@example(q="m", tag=None)
@example(q=LONG + "c", tag=None)
@example(q="mail example", tag=None)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_the_same_is_found_in_the_same_order_as_by_comparing_every_word(
    connection: asyncpg.Connection, client: httpx2.AsyncClient, odd: None, q: str, tag: str | None
) -> None:
    words = split_words(q)[:10]
    tags = [] if tag is None else [tag]
    wanted = await as_before(connection, words, tags) if words else []
    assert await found(client, q=" ".join(words) or "&", tag=tags) == wanted
    if words and tags:
        assert set(wanted) <= set(await found(client, tag=tags))


async def test_every_word_must_begin_a_word_and_the_title_counts_most(client: httpx2.AsyncClient) -> None:
    below = await create(client, title="Shopping", description="buy milk and bread")
    above = await create(client, title="Milk the cow", description=None)
    tagged = await create(client, title="Call them", tags=["milk"])
    assert await found(client, q="milk") == [above, below, tagged]
    assert (await found(client, q="milk", sort="relevance"))[-1] == above
    assert await found(client, q="bre mi") == [below]
    assert await found(client, q="ilk") == []
    first = (await client.get(TASKS, params={"q": "milk", "limit": 1}, headers=ALICE)).json()
    assert await found(client, q="milk", cursor=first["next_cursor"]) == [below, tagged]


async def test_a_word_is_compared_to_its_end_however_long_it_is(client: httpx2.AsyncClient) -> None:
    one, other = await create(client, title=LONG + "one"), await create(client, title=LONG + "other")
    longest = ["y" * 2046, "z" * 2047, "😀" * 511, "\U0001d518" * 511]
    longer = await create(client, title="long ones", description=" ".join(longest))
    assert sorted(await found(client, q=LONG + "o")) == [one, other]
    assert await found(client, q=LONG + "on") == [one]
    assert await found(client, q=LONG + "x") == []
    assert await found(client, q="y" * 200) == await found(client, q="\U0001d518" * 9) == [longer]
    assert await found(client, q="z" * 200) == [], "PostgreSQL keeps no word of more than 2,046 bytes"


@pytest.mark.parametrize(
    "q",
    ["&", "!!", "a & | b", "(", "milk:*", "'", "\\", "milk\\", "<->", "a:b:c:*AB", '"milk', "'; DROP TABLE tasks; --",
     "%_", "🛒", "\u202emilk", "\u200b", "\u0301", "مرحبا", "x" * 200, "  ", "", "\U0010ffff", "-milk", "or and not"],
)  # fmt: skip
async def test_no_text_is_an_error_of_the_search(client: httpx2.AsyncClient, q: str) -> None:
    task = await create(client, title="Buy milk")
    seen = await found(client, q=q)
    assert seen == ([task] if "milk" in q and "DROP" not in q and "\u202e" not in q else seen)
    if not any(character.isalnum() for character in q):
        assert seen == []


def mark(owner_id: str) -> str:
    return hashlib.md5(owner_id.encode(), usedforsecurity=False).hexdigest()[:8]


def two_of_one_mark() -> tuple[str, str]:
    """Give two owners whose words lie together in the index."""
    seen: dict[str, str] = {}
    for name in (f"owner-{number}" for number in count()):
        if (other := seen.setdefault(mark(name), name)) != name:
            return other, name
    raise AssertionError


@pytest.mark.parametrize("strangers", [("alice", "bob"), two_of_one_mark()], ids=["any", "of one mark"])
async def test_other_peoples_words_and_tags_are_never_found(
    connection: asyncpg.Connection, client: httpx2.AsyncClient, strangers: tuple[str, str]
) -> None:
    reader, owner = (bearer(name) for name in strangers)
    secret = await create(client, owner, title="secret plan", tags=["secret"])
    theirs = mark(strangers[1])
    queries: list[dict[str, Any]] = [
        *({"q": q} for q in ("secret", "s", "\x01", theirs, f"{theirs}secret", "x' | 'secret", "secret:*")),
        *({"tag": tag} for tag in ("secret", f"{theirs}secret", "x' | 'secret", "' | 'secret")),
        {"q": "plan", "tag": "secret"},
        {"tag": ["secret", "other"], "tag_match": "any"},
    ]
    for query in queries:
        assert await found(client, reader, **query) == [], query
    assert await found(client, owner, q="secret", tag="secret") == [secret]
