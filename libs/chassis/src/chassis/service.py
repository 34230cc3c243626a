"""Puts the chassis together: one application, one way to serve it, one way to migrate its database."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from importlib import metadata
from typing import NoReturn, TypeVar

import httpx2
from fastapi import APIRouter, FastAPI

from chassis.caching import PrivateCacheMiddleware
from chassis.client_address import ClientAddressMiddleware
from chassis.correlation import CorrelationMiddleware
from chassis.cors import CorsMiddleware
from chassis.database import Database, open_database
from chassis.database_connection import DatabaseRefusedError, is_verified, refuse_another_server
from chassis.docs_page import install_docs_page
from chassis.errors import install_error_handlers, method_not_allowed
from chassis.framing import FramingMiddleware
from chassis.health import database_check, health_router
from chassis.identity.jwks import JwksKeys
from chassis.identity.proxy import SignedRequestMiddleware, accepting_proxies
from chassis.identity.tokens import KeySource, SharedSecret, TokenAuthenticator, TokenVerifier
from chassis.limits import BodyLimitMiddleware
from chassis.logging import configure_logging, get_logger
from chassis.methods import MethodsMiddleware
from chassis.metrics import ObservedMiddleware, metrics_router, show_version
from chassis.migrations import upgrade
from chassis.openapi import DescribedService
from chassis.paths import API_PREFIX
from chassis.rate_limits.admission import RateLimits
from chassis.rate_limits.budgets import ADDRESS, FAILED_AUTHENTICATION, USER
from chassis.rate_limits.counters import LocalCounters, SharedCounters
from chassis.rate_limits.middleware import RateLimitMiddleware
from chassis.request_heads import RequestHeadMiddleware
from chassis.schema_wait import wait_for_schema
from chassis.security_headers import SecurityHeadersMiddleware
from chassis.server import CutOffMiddleware, OpenRequests, serve
from chassis.settings import ServiceSettings, load_settings
from chassis.slow_bodies import SlowBodyMiddleware
from chassis.tracing import configure_tracing, request_telemetry, stop_tracing

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)
Background = Callable[[FastAPI], AbstractAsyncContextManager[None]]
_logger = get_logger(__name__)


def create_service(
    settings: ServiceSettings,
    *,
    package: str,
    api_version: str = "1.0",
    title: str,
    description: str,
    routers: Sequence[APIRouter],
    background: Background | None = None,
    body_limits: Mapping[str, int] | None = None,
) -> FastAPI:
    """Make a service's application.

    Args:
        settings: Already checked.
        package: Import name; its `migrations` are the schema.
        api_version: `major.minor` of the HTTP contract (docs/api/README.md, Versions).
        title: Name in the OpenAPI document.
        description: First paragraph of the OpenAPI document.
        routers: The features, mounted under `/api/v1`.
        background: Runs while the application does, e.g. the relay.
        body_limits: Largest body, in bytes, of the paths that may bring more, or less, than the settings say.

    Returns:
        The application; `app.state.database` is the pool, `app.state.rate_limits` takes the routes that may be asked
        less often than others, and what is in `app.state.at_stop` is called when the process is about to end, before
        open requests are waited for. `background` may put authenticators of the service's own before the one of tokens
        in `app.state.authenticators`, and an `AccountGate` in `app.state.account_gate`.
    """
    name = package.replace("_", "-")
    show_version(metadata.version(name))
    limits = _rate_limits(settings, package)
    app = DescribedService(
        title=title,
        description=description,
        version=api_version,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(settings, name, background, requests := OpenRequests(), limits),
        telemetry=request_telemetry(),
        generate_unique_id_function=lambda route: route.name,  # what generated clients call the method
    )
    app.state.settings = settings
    app.state.database = database = open_database(settings, application_name=name)
    app.state.rate_limits = limits
    app.state.at_stop = []
    app.state.account_gate = None
    app.state.readiness = {"database": database_check(database, package)}
    app.include_router(health_router)
    app.include_router(metrics_router)
    install_docs_page(app)
    for router in routers:
        app.include_router(router, prefix=API_PREFIX)
    install_error_handlers(app)
    # Last added is outermost: ids first, so that whatever happens inside is logged and answered with them.
    routes = app.router.routes
    app.add_middleware(MethodsMiddleware, routes=routes, refuse=partial(method_not_allowed, routes))
    if settings.proxy_keys:
        app.add_middleware(SignedRequestMiddleware)
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_body_bytes, of_paths=body_limits)
    app.add_middleware(SlowBodyMiddleware, seconds=settings.body_timeout)
    app.add_middleware(RateLimitMiddleware, limits=limits)
    app.add_middleware(FramingMiddleware)
    app.add_middleware(RequestHeadMiddleware)
    app.add_middleware(CutOffMiddleware, requests=requests)
    app.add_middleware(ObservedMiddleware)
    app.add_middleware(PrivateCacheMiddleware)
    if settings.cors_origins:  # outside of all that refuses, as a page may read only what has these headers
        app.add_middleware(CorsMiddleware, origins=settings.cors_origins)
    app.add_middleware(ClientAddressMiddleware, proxies=settings.trusted_proxies, header=settings.forwarded_header)
    app.add_middleware(CorrelationMiddleware)
    app.add_middleware(SecurityHeadersMiddleware, hsts=settings.hsts)
    return app


def _rate_limits(settings: ServiceSettings, package: str) -> RateLimits:
    store, timeout = settings.rate_limit_store, settings.rate_limit_store_timeout
    counters = (
        LocalCounters() if store is None else SharedCounters(store.get_secret_value(), service=package, timeout=timeout)
    )
    numbers = {
        USER: settings.rate_limit_per_user,
        ADDRESS: settings.rate_limit_per_address,
        FAILED_AUTHENTICATION: settings.rate_limit_failed_authentications,
    }
    return RateLimits(counters, of=numbers)


def _lifespan(
    settings: ServiceSettings, name: str, background: Background | None, requests: OpenRequests, limits: RateLimits
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        database: Database = app.state.database
        async with AsyncExitStack() as stack:
            stack.push_async_callback(database.close)
            stack.push_async_callback(limits.counters.close)
            keys = await stack.enter_async_context(_key_source(settings))
            verifier = TokenVerifier(
                keys,
                issuer=settings.auth_issuer,
                audience=settings.auth_audience,
                clock_skew=settings.auth_clock_skew,
            )
            of_proxies, beside = accepting_proxies(app, settings, name)
            await stack.enter_async_context(beside)
            app.state.authenticators = [*of_proxies, TokenAuthenticator(verifier)]
            if background is not None:
                await stack.enter_async_context(background(app))
            _logger.info("started", environment=settings.environment, port=settings.port)
            yield
            _logger.info("stopping")
            await requests.all_ended()

    return lifespan


@asynccontextmanager
async def _key_source(settings: ServiceSettings) -> AsyncIterator[KeySource]:
    if settings.auth_jwks_url is None:
        assert settings.auth_hs256_secret is not None  # noqa: S101  (settings hold exactly one of the two)
        yield SharedSecret(settings.auth_hs256_secret.get_secret_value())
        return
    # No timeout of the client's own: the policy of the call bounds each attempt as a whole.
    async with httpx2.AsyncClient(timeout=None, follow_redirects=False) as client:
        keys = JwksKeys(str(settings.auth_jwks_url), client, max_age=settings.auth_jwks_max_age)
        async with keys.refreshing():
            yield keys


def run_service(
    package: str,
    settings_class: type[SettingsT],
    create_app: Callable[[SettingsT], FastAPI],
    commands: Mapping[str, Callable[[SettingsT], None]] | None = None,
) -> None:
    """Be the command line of a service: `python -m <package> serve|migrate|wait-for-schema`, and what else it can do.

    Args:
        package: Import name.
        settings_class: Read from the environment.
        create_app: Makes the application.
        commands: What the service does besides, by name.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {package}")
    more: dict[str, Callable[[SettingsT], None]] = {"wait-for-schema": partial(wait_for_schema, package)}
    more.update(commands or {})
    parser.add_argument(
        "command", choices=["serve", "migrate", *more], help="serve HTTP, or bring the database schema to head, or …"
    )
    command = parser.parse_args(sys.argv[1:]).command
    settings = load_settings(settings_class)
    name = package.replace("_", "-")
    configure_logging(service=name, level=settings.log_level, secrets=settings.secrets().values())
    database_url = migration_url(settings) if command == "migrate" else str(settings.database_url)
    _refuse_another_server(database_url, settings)
    if command == "migrate":
        upgrade(package, database_url)
        return
    if command in more:
        more[command](settings)
        return
    provider = configure_tracing(name, metadata.version(name))
    try:
        serve(create_app(settings), settings)
    finally:
        stop_tracing(provider)


def migration_url(settings: ServiceSettings) -> str:
    """Give where migrations connect, or end the process when that would be a pooler."""
    if settings.database_direct_url is not None:
        return str(settings.database_direct_url)
    if settings.database_pooler != "none":
        _stop("TASKWIRE_DATABASE_DIRECT_URL is not set: a migration locks for its session, and a pooler has none")
    return str(settings.database_url)


def _refuse_another_server(database_url: str, settings: ServiceSettings) -> None:
    """End the process rather than send a password to a server that is not ours, or run without being noticed."""
    try:
        asyncio.run(refuse_another_server(database_url))
    except DatabaseRefusedError as error:
        _stop(f"the database of TASKWIRE_DATABASE_URL is refused: {error}")
    if settings.environment != "development" and not is_verified(database_url):
        _logger.warning("the database is not verified", do="say sslmode=verify-full in TASKWIRE_DATABASE_URL")


def _stop(why: str) -> NoReturn:
    sys.stderr.write(f"cannot start: {why}\n")
    raise SystemExit(2)
