"""Takes signed requests: the signature first, which costs nobody anything, then the nonce, then the body."""

import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final

from fastapi import Request

from chassis.identity.principal import Principal
from chassis.identity.proxy.nonces import NonceStore
from chassis.identity.proxy.signature import (
    SCHEME,
    InvalidSignatureError,
    SignedCredential,
    read_credential,
    sign,
    signed_text,
)
from chassis.identity.proxy.signed_request import SignedRequest

WINDOW: Final = 60
"""Seconds that the time of a signature may be off, either way."""
LASTS: Final = 3600.0
"""Seconds after which what outlasts its request ends, such as a stream; the proxy signs a new one."""


class ProxyAuthenticator:
    """Takes `Authorization: Taskwire-HMAC-SHA256 key=…,subject=…`."""

    def __init__(
        self,
        *,
        service: str,
        keys: Mapping[str, bytes],
        roles: frozenset[str],
        nonces: NonceStore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Say whose signatures are accepted.

        Args:
            service: Whom requests must be signed for.
            keys: Secrets by key id.
            roles: Those that a proxy may give.
            nonces: Where a nonce is noted.
            clock: Unix time.
        """
        self._service, self._keys, self._roles = service, keys, roles
        self._nonces, self._clock = nonces, clock
        self._of_nobody = secrets.token_bytes(32)  # an id that does not exist takes as long as a wrong secret

    def recognizes(self, scheme: str, credential: str) -> bool:  # noqa: ARG002 (the port's shape)
        """Go by the scheme."""
        return scheme == SCHEME.lower()

    async def authenticate(self, request: Request, credential: str) -> Principal:
        """Verify a signed request. Its nonce is spent by that, whatever comes of the request.

        Raises:
            InvalidSignatureError: It does not hold, or was sent before.
            DatabaseUnavailableError: Whether it was sent before cannot be found out.
            BodyStalledError: The body does not come.
            UnavailableError: There is no room for it.
        """
        signed = read_credential(credential)
        asked = SignedRequest.of(request)
        self._check_signature(asked, signed)
        if abs(self._clock() - int(signed.time)) > WINDOW:
            raise InvalidSignatureError(f"The signature's time is off by more than {WINDOW} seconds.")
        subject, roles = signed.subject_id, signed.role_names
        if not roles <= self._roles:
            raise InvalidSignatureError("The proxy gives a role that it may not give.")
        if not await self._nonces.claim(signed.key, signed.nonce):
            raise InvalidSignatureError("The nonce was used before: sign each request anew.")
        if not await asked.has_body(signed.body):
            raise InvalidSignatureError("The body is not the one that was signed.")
        return Principal(subject, roles, expires_at=self._clock() + LASTS)

    def _check_signature(self, asked: SignedRequest, signed: SignedCredential) -> None:
        secret = self._keys.get(signed.key, self._of_nobody)
        text = signed_text(self._service, asked.method, asked.path, asked.query, signed)
        if not hmac.compare_digest(sign(secret, text), signed.signature):
            raise InvalidSignatureError("The signature does not hold.")
