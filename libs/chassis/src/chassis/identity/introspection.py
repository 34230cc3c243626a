"""API keys in the services that do not have them: task-api is asked, in the manner of RFC 7662.

Answers are kept for a few seconds, so revoking a key reaches these services a little later than task-api. Without an
answer there is no access: nothing is said of a key for longer than that.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx2
import structlog
from fastapi import FastAPI, Request

from chassis.errors import UnavailableError
from chassis.identity.api_key_text import PREFIX, read_key_text
from chassis.identity.guards import InvalidCredentialError
from chassis.identity.permissions import IN_A_KEY
from chassis.identity.principal import Principal
from chassis.logging import get_logger
from chassis.questions import UNANSWERED, Questions
from chassis.resilience import CallPolicy, CircuitOpenError
from chassis.settings import ConsumerSettings

POSITIVE_FOR: Final = 5.0
"""Seconds for which a key that holds is not asked for again: how much later revoking it arrives here."""
NEGATIVE_FOR: Final = 2.0
MAX_ANSWERS: Final = 10_000
POLICY: Final = CallPolicy("introspection", timeout=2.0, attempts=2, max_backoff=0.5, recovery_timeout=2.0)
_logger = get_logger(__name__)


@dataclass(frozen=True)
class _Kept:
    """An answer: whose key it is, or None when it does not hold."""

    principal: Principal | None
    until: float


class IntrospectingAuthenticator:
    """Takes `Authorization: Bearer tw_…` where somebody else knows the keys."""

    def __init__(
        self,
        url: str,
        secret: str,
        client: httpx2.AsyncClient,
        *,
        clock: Callable[[], float] = time.monotonic,
        policy: CallPolicy = POLICY,
    ) -> None:
        """Say whom to ask.

        Args:
            url: Of task-api's introspection.
            secret: What it demands of who asks.
            client: Used for the calls; must not follow redirects.
            clock: Seconds that never go back.
            policy: How a call is made.
        """
        self._url, self._clock = url, clock
        self._questions = Questions(url, secret, client, policy)
        # By hashes, so that no key lies in memory for longer than its request.
        self._kept: dict[bytes, _Kept] = {}
        self._asking: dict[bytes, asyncio.Task[_Kept]] = {}

    def recognizes(self, scheme: str, credential: str) -> bool:
        """Tell a key from a JWT, by how it begins."""
        return scheme == "bearer" and credential.startswith(PREFIX)

    async def authenticate(self, request: Request, credential: str) -> Principal:  # noqa: ARG002 (the port's shape)
        """Verify the key, and name it in the log lines of the request.

        Raises:
            InvalidCredentialError: It does not hold.
            UnavailableError: Nobody can say right now.
        """
        if read_key_text(credential) is None:
            raise InvalidCredentialError("This is not an API key: a character is wrong, missing or too many.")
        principal = await self._find(credential)
        ended = principal is not None and principal.expires_at is not None and principal.expires_at <= time.time()
        if principal is None or ended:
            raise InvalidCredentialError("The API key is not valid.")
        structlog.contextvars.bind_contextvars(api_key=principal.key_id)
        return principal

    async def _find(self, credential: str) -> Principal | None:
        name = hashlib.sha256(credential.encode()).digest()
        kept = self._kept.get(name)
        if kept is not None and self._clock() < kept.until:
            return kept.principal
        asking = self._asking.get(name)
        if asking is None:
            asking = self._asking[name] = asyncio.create_task(self._ask(name, credential), name="introspection")
            asking.add_done_callback(lambda done: self._asked(name, done))
        try:
            # A caller who goes away takes nothing from those who wait for the same answer.
            return (await asyncio.shield(asking)).principal
        except CircuitOpenError as error:
            raise UnavailableError("API keys cannot be verified now.", retry_after=error.retry_after) from error
        except UNANSWERED as error:
            raise UnavailableError("API keys cannot be verified now.") from error

    def _asked(self, name: bytes, done: "asyncio.Task[_Kept]") -> None:
        self._asking.pop(name, None)
        if not done.cancelled() and (error := done.exception()) is not None:
            _logger.warning("introspection failed", url=self._url, error=repr(error))

    async def _ask(self, name: bytes, credential: str) -> _Kept:
        asked_at = self._clock()  # before the answer was made: it is not kept for longer than that says
        principal = await self._questions.ask({"token": credential}, _principal)
        kept = _Kept(principal, asked_at + (NEGATIVE_FOR if principal is None else POSITIVE_FOR))
        self._kept.pop(name, None)
        while len(self._kept) >= MAX_ANSWERS:
            del self._kept[next(iter(self._kept))]
        self._kept[name] = kept
        return kept


def _principal(body: bytes) -> Principal | None:
    answer = json.loads(body)
    if not isinstance(answer, dict) or type(answer.get("active")) is not bool:
        raise ValueError("not an answer of an introspection")
    if not answer["active"]:
        return None
    subject, scope, ends, key_id = (answer.get(name) for name in ("sub", "scope", "exp", "client_id"))
    texts = isinstance(subject, str) and isinstance(scope, str) and isinstance(key_id, str)
    if not texts or not subject or not (ends is None or type(ends) is int):
        raise ValueError("not an answer of an introspection")
    named = str(scope).split()
    scopes = frozenset(permission for permission in IN_A_KEY if permission in named)
    expires_at = None if ends is None else float(ends)
    return Principal(str(subject), scopes=scopes, expires_at=expires_at, key_id=str(key_id))


@asynccontextmanager
async def taking_api_keys(app: FastAPI, settings: ConsumerSettings) -> AsyncIterator[None]:
    """Let an application take API keys while the block lasts, if its settings say whom to ask."""
    if settings.introspection_url is None or settings.introspection_secret is None:
        yield
        return
    secret = settings.introspection_secret.get_secret_value()
    # No timeout of the client's own: the policy of the call bounds each attempt as a whole.
    async with httpx2.AsyncClient(timeout=None, follow_redirects=False) as client:
        authenticator = IntrospectingAuthenticator(str(settings.introspection_url), secret, client)
        app.state.authenticators.insert(0, authenticator)
        yield
