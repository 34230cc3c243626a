"""Verification keys from a JWKS URL (RFC 7517), as Better Auth serves them at `/api/auth/jwks`.

Keys are fetched again in the background, so that no request waits for one that is known. A key id that is not known
makes a request fetch: single flight, with a floor between two, so a flood of them costs the issuer nothing. When the
issuer is down, known keys go on working up to an age.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final

import httpx2
from prometheus_client import Gauge

from chassis.bounded_body import bounded_body
from chassis.errors import UnavailableError
from chassis.identity.jwk_set import parse_jwks
from chassis.identity.tokens import InvalidTokenError, VerificationKey
from chassis.logging import get_logger
from chassis.periodic import repeating
from chassis.resilience import CallPolicy, CircuitOpenError, ResilientCall

REFRESH_AFTER: Final = 300.0
"""Seconds after which keys are fetched again even when nothing is missing, so that removed keys go."""
FETCH_FLOOR: Final = 30.0
"""Seconds between two fetches for key ids that are not known, and between two tries to refresh."""
MAX_AGE: Final = 86_400
"""Seconds for which keys are used that could not be fetched again, unless the settings say otherwise."""
POLICY: Final = CallPolicy("jwks", timeout=3.0, attempts=2, recovery_timeout=10.0)
MAX_DOCUMENT_BYTES: Final = 256 * 1024

_NEVER: Final = float("-inf")
_age = Gauge("taskwire_jwks_age_seconds", "Age of the identity provider's keys; infinite before they were ever fetched")
_count = Gauge("taskwire_jwks_keys", "Keys of the identity provider that are in use")
_logger = get_logger(__name__)


class JwksKeys:
    """The issuer's keys, cached."""

    def __init__(
        self,
        url: str,
        client: httpx2.AsyncClient,
        *,
        max_age: float = MAX_AGE,
        clock: Callable[[], float] = time.monotonic,
        policy: CallPolicy = POLICY,
    ) -> None:
        """Say where the keys are.

        Args:
            url: The JWKS document.
            client: Used for the fetches; must not follow redirects.
            max_age: Seconds after which keys are not used any more that could not be fetched again.
            clock: Seconds that never go back.
            policy: How a fetch is made.
        """
        self._url, self._client, self._max_age, self._clock = url, client, max_age, clock
        self._keys: dict[str, VerificationKey] = {}
        self._fetched_at = self._asked_at = _NEVER
        self._fetches = 0
        self._fetching = asyncio.Lock()
        self._call = ResilientCall(policy)
        _age.set_function(lambda: self.age)
        _count.set_function(lambda: len(self._usable()))

    @property
    def age(self) -> float:
        """Seconds since the keys were fetched; infinite before."""
        return self._clock() - self._fetched_at

    async def find(self, *, algorithm: str, key_id: str | None) -> VerificationKey:
        """Give the key a token header asks for; one that is known is given without waiting.

        Raises:
            InvalidTokenError: The issuer has no such key, or it is for another algorithm.
            UnavailableError: There are no keys, or too old ones, and the issuer does not answer.
        """
        if key_id is None:
            raise InvalidTokenError("The token names no key.")
        found = self._usable().get(key_id)
        if found is None:
            await self._look_for_new()
            usable = self._usable()
            found = usable.get(key_id)
            if not usable:
                raise UnavailableError("The identity provider's keys cannot be fetched.", retry_after=5)
        if found is None:
            raise InvalidTokenError("The token is signed with an unknown key.")
        if found.algorithm != algorithm:
            raise InvalidTokenError("The token is signed with an algorithm that is not accepted here.")
        return found

    def _usable(self) -> Mapping[str, VerificationKey]:
        return self._keys if self.age <= self._max_age else {}

    async def _look_for_new(self) -> None:
        """Fetch because a key is not known, unless that was done just now."""
        fetches = self._fetches
        async with self._fetching:
            now = self._clock()
            # Whoever waited for a fetch takes its outcome, also a failure: else each would wait for one more timeout.
            if fetches != self._fetches or now - self._asked_at < FETCH_FLOOR:
                return
            self._asked_at = now
            await self._replace()
            if not self._usable():
                self._asked_at = _NEVER  # nothing works yet: let the next request try, behind the breaker

    async def refresh(self) -> None:
        """Fetch when the keys are not fresh any more. What fails is logged, and the keys stay."""
        async with self._fetching:
            if self.age >= REFRESH_AFTER:
                await self._replace()

    def refreshing(self, *, every: float = FETCH_FLOOR) -> AbstractAsyncContextManager[None]:
        """Refresh in the background, from now on.

        Args:
            every: Seconds between two looks at whether it is time.
        """
        return repeating("jwks-refresh", every, self.refresh)

    async def _replace(self) -> None:
        try:
            keys = await self._call(self._fetch)
        except (httpx2.HTTPError, ValueError, TimeoutError, CircuitOpenError) as error:
            kept, age = len(self._usable()), f"{self.age:.0f} s"
            _logger.warning("jwks fetch failed", url=self._url, error=repr(error), keys_kept=kept, age=age)
        else:
            if keys.keys() != self._keys.keys():
                new, gone = sorted(keys.keys() - self._keys.keys()), sorted(self._keys.keys() - keys.keys())
                _logger.info("keys of the identity provider changed", new=new, gone=gone)
            self._keys, self._fetched_at = keys, self._clock()
        finally:
            self._fetches += 1

    async def _fetch(self) -> dict[str, VerificationKey]:
        async with self._client.stream("GET", self._url, headers={"Accept": "application/json"}) as response:
            body = await bounded_body(response, MAX_DOCUMENT_BYTES, "JWKS document")
        return parse_jwks(body)
