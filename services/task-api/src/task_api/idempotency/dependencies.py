"""How a route takes part: it asks for an `Answering`, and gives it the answer before the commit."""

import hashlib
import re
from typing import Annotated, Final

from fastapi import Depends, FastAPI, Header, Request
from starlette.responses import Response

from chassis.database import DbSession
from chassis.errors import FieldProblem, InvalidInputError
from chassis.identity import CurrentUser
from task_api.idempotency.service import Answer, Claim, Idempotency

MAX_KEY_CHARS: Final = 255
REPLAYED_HEADER: Final = "Idempotent-Replayed"
_HEADER: Final = "Idempotency-Key"
# As Stripe takes it, bare; or as the IETF draft writes it, a quoted string (RFC 9651), which means the same key.
_BARE = re.compile(r"[\x21\x23-\x7e]+")
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')


class AnsweredBeforeError(Exception):
    """The request was answered before: no error, the way out of a route that has nothing left to do."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("answered before")
        self.answer = answer


class Answering:
    """The one answer to a request, kept under its key when it has one."""

    def __init__(self, claim: Claim | None = None) -> None:
        self._claim = claim
        self._answer: Answer | None = None

    async def keep(self, answer: Answer) -> None:
        """Take the answer, in the transaction of the change and before its commit."""
        if self._claim is not None:
            await self._claim.keep(answer)
        self._answer = answer

    def response(self) -> Response:
        """Give the answer as a response, after the commit."""
        assert self._answer is not None  # noqa: S101  (every service calls `keep` before it commits)
        return response_of(self._answer)


def response_of(answer: Answer, *, replayed: bool = False) -> Response:
    """Make the response for an answer; without a content type where there is no content."""
    headers = answer.headers | ({REPLAYED_HEADER: "true"} if replayed else {})
    return Response(answer.body, answer.status, headers)


def install_replay(app: FastAPI, idempotency: Idempotency) -> None:
    """Let the routes of `app` take idempotency keys."""
    app.state.idempotency = idempotency
    app.add_exception_handler(AnsweredBeforeError, _replay)


async def _replay(_: Request, error: Exception) -> Response:
    assert isinstance(error, AnsweredBeforeError)  # noqa: S101  (Starlette calls by type)
    return response_of(error.answer, replayed=True)


async def get_answering(
    request: Request,
    user: CurrentUser,
    session: DbSession,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias=_HEADER,
            description=f"Any text of your own, at most {MAX_KEY_CHARS} characters, best a UUID. The same request sent "
            "again under it changes nothing and gets the same answer.",
            examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
        ),
    ] = None,
) -> Answering:
    """Claim the request's key, if it has one.

    Raises:
        AnsweredBeforeError: With the answer that the same request got.
        RequestInProgressError: The first request with this key has not ended.
        KeyReusedError: The key was used for another request.
        InvalidInputError: It is no key.
    """
    if idempotency_key is None:
        return Answering()
    key = read_key(request.headers.getlist(_HEADER))
    idempotency: Idempotency = request.app.state.idempotency
    claimed = await idempotency.claim(session, user.id, key, await _fingerprint(request))
    if isinstance(claimed, Answer):
        raise AnsweredBeforeError(claimed)
    return Answering(claimed)


def read_key(lines: list[str]) -> str:
    """Give the key in the lines of its header.

    Raises:
        InvalidInputError: It is no key.
    """
    text = ", ".join(lines)
    if quoted := _QUOTED.fullmatch(text):
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    else:
        key = text if _BARE.fullmatch(text) else ""
    if not 1 <= len(key) <= MAX_KEY_CHARS:
        message = f"must be 1 to {MAX_KEY_CHARS} visible ASCII characters"
        problem = FieldProblem(field=f"header.{_HEADER}", message=message)
        raise InvalidInputError(f"{problem.field}: {message}", errors=[problem])
    return key


async def _fingerprint(request: Request) -> bytes:
    """Hash what makes this request the one it is; the body itself is never kept."""
    parts = (
        request.method.encode(),
        request.scope["path"].encode(),
        request.scope["query_string"],
        ",".join(request.headers.getlist("If-Match")).encode("latin-1"),
        await request.body(),
    )
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8) + part)
    return digest.digest()


Answered = Annotated[Answering, Depends(get_answering)]
