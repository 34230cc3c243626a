"""Who may not in is told so from the headers: nothing of the body is waited for, taken in or parsed before."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body
from libs.chassis.tests.connections import deployed, get, post

from chassis.identity import GuardedRoute, Permission, Principal, requires
from chassis.testing import make_token

LARGE: Final = 60_000
router = APIRouter(route_class=GuardedRoute)


@router.post("/tasks")
async def write(
    user: Annotated[Principal, requires(Permission.TASKS_WRITE)], body: Annotated[dict[str, Any], Body()]
) -> str:
    return f"{user.id}: {len(body)}"


@router.post("/letters")
async def of_admins(
    user: Annotated[Principal, requires(Permission.DEAD_LETTERS_WRITE)], body: Annotated[dict[str, Any], Body()]
) -> str:
    return f"{user.id}: {len(body)}"


def begin(path: str, *headers: str, length: int = LARGE) -> str:
    """The head of a request whose body is large, and does not come."""
    return post(length, "/api/v1" + path).removesuffix("\r\n") + "".join(f"{one}\r\n" for one in headers) + "\r\n"


def by(user: str) -> str:
    return f"Authorization: Bearer {make_token(user)}"


async def test_who_has_no_credential_or_a_bad_one_is_told_before_anything_of_the_body_came() -> None:
    async with deployed(router) as server:
        for headers in ((), ("Authorization: Bearer x",), ("Authorization: Bearer x", "Expect: 100-continue")):
            async with server.line() as line:
                await line.say(begin("/tasks", *headers))
                answer = await line.answer()
                assert (answer.status, answer.code) == (401, "unauthenticated")


async def test_who_lacks_the_permission_is_told_before_anything_of_the_body_came() -> None:
    async with deployed(router) as server, server.line() as line:
        await line.say(begin("/letters", by("alice")))
        answer = await line.answer()
        assert (answer.status, answer.code) == (403, "permission_denied")


async def test_who_has_used_up_a_budget_is_told_before_anything_of_the_body_came() -> None:
    body = '{"a": "b"}'
    async with deployed(router, rate_limit_per_user=2) as server:
        async with server.line() as line:
            for left in (1, 0):
                await line.say(begin("/tasks", by("alice"), length=len(body)) + body)
                answer = await line.answer()
                assert (answer.status, answer.body) == (200, b'"alice: 1"')
                assert f'"user";r={left}' in answer.headers["ratelimit"], "a request counts once"
        async with server.line() as line:
            await line.say(begin("/tasks", by("alice")))
            answer = await line.answer()
            assert (answer.status, answer.code) == (429, "rate_limited")
            assert '"user";r=0' in answer.headers["ratelimit"]


async def test_who_sends_the_body_all_the_same_has_the_answer_and_may_go_on_with_the_connection() -> None:
    async with deployed(router) as server, server.line() as line:
        for _ in range(2):
            await line.say(begin("/tasks") + "x" * LARGE + get())
            assert (await line.answer()).status == 401
            assert (await line.answer()).status == 200, "what came after the body is the next request"


async def test_who_never_sends_it_does_not_keep_the_connection() -> None:
    async with deployed(router, head_timeout=0.3) as server, server.line(begin("/tasks") + "x" * 10) as line:
        assert (await line.answer()).status == 401
        await line.say("x")
        assert await line.is_closed()


async def test_a_good_request_is_asked_for_its_body() -> None:
    body = '{"a": "b"}'
    async with deployed(router) as server, server.line() as line:
        await line.say(begin("/tasks", by("alice"), "Expect: 100-continue", length=len(body)))
        assert await line.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await line.say(body)
        assert (await line.answer()).status == 200
