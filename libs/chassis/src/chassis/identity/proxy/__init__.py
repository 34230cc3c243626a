"""Requests of a trusted proxy, which says for whom it asks and signs all of it (docs/identity.md, decision 15)."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from chassis.database import Database
from chassis.identity.guards import Authenticator
from chassis.identity.proxy.authenticator import ProxyAuthenticator
from chassis.identity.proxy.nonces import NonceStore
from chassis.identity.proxy.signed_request import SignedRequestMiddleware
from chassis.settings import ServiceSettings

__all__ = ["SignedRequestMiddleware", "accepting_proxies"]


@asynccontextmanager
async def _none() -> AsyncIterator[None]:
    yield


def accepting_proxies(
    app: FastAPI, settings: ServiceSettings, service: str
) -> tuple[list[Authenticator], AbstractAsyncContextManager[None]]:
    """Make what takes signed requests, where the settings have keys of proxies.

    Args:
        app: Has the database in its state.
        settings: Name the keys.
        service: What a request is signed for, e.g. `task-api`.

    Returns:
        The authenticators, none without keys; and what runs beside them.
    """
    if not settings.proxy_keys:
        return [], _none()
    database: Database = app.state.database
    nonces = NonceStore(database)
    authenticator = ProxyAuthenticator(
        service=service,
        keys={key_id: secret.get_secret_value().encode() for key_id, secret in settings.proxy_keys.items()},
        roles=frozenset(settings.proxy_roles),
        nonces=nonces,
    )
    return [authenticator], nonces.forgetting()
