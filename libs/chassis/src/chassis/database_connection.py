"""How connections to PostgreSQL are made: TLS, what a pooler forbids, and the time limits of every transaction.

A connection string says what it wants of TLS in libpq's own words (`?sslmode=verify-full&sslrootcert=…`), so the one
that psql, pg_dump or a provider's console has is taken as it is. What a word would promise and asyncpg cannot keep is
refused, never dropped.
"""

import ssl
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import asyncpg
from sqlalchemy.engine import URL, make_url
from typing_extensions import override

Unverified = Literal["disable", "allow", "prefer", "require"]
_UNVERIFIED: Final[Mapping[str, Unverified]] = {mode: mode for mode in get_args(Unverified)}
_VERIFIED: Final = ("verify-ca", "verify-full")
_SYSTEM: Final = "system"
_KNOWN: Final = {"sslmode", "sslrootcert", "channel_binding"}
_SINCE_17: Final = "transaction_timeout"
_PROBE_TIMEOUT: Final = 5.0


class DatabaseUrlError(ValueError):
    """The connection string asks for what it cannot get; the message never shows the string."""


class DatabaseRefusedError(Exception):
    """The server is there, and is not the one that was asked for, or has no TLS."""


def driver_url(url: str) -> URL:
    """Give the connection string as SQLAlchemy takes it; what is behind its `?` is in `connect_arguments`."""
    return make_url(url).set(drivername="postgresql+asyncpg", query={})


def connect_arguments(
    url: str, *, timeout: float, limits: Mapping[str, float], pooled: bool = False, application_name: str = "taskwire"
) -> dict[str, Any]:
    """Make what asyncpg is told about each connection besides its address.

    Args:
        url: The connection string.
        timeout: Seconds to connect.
        limits: PostgreSQL's own settings of time, in seconds, that hold for every transaction.
        pooled: A pooler gives each transaction any of its connections, so nothing may outlive a transaction.
        application_name: As `pg_stat_activity` shows it.

    Raises:
        DatabaseUrlError: The string asks for what cannot be.
    """
    arguments: dict[str, Any] = {
        "ssl": tls(url),
        "timeout": timeout,
        "connection_class": _limited(limits),
        "server_settings": {"application_name": application_name},
    }
    if pooled:
        # A statement that has a name would lie in one connection of the pooler and be called in another.
        arguments |= {
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": _no_name,
        }
    return arguments


def tls(url: str) -> Unverified | ssl.SSLContext:
    """Give what the string says about TLS as asyncpg takes it; without a word of it `prefer`, as libpq does.

    Raises:
        DatabaseUrlError: A word nobody knows, a file that is not there or has no certificates, or channel binding.
    """
    query = make_url(url).query
    if unknown := sorted(query.keys() - _KNOWN):
        raise DatabaseUrlError(f"has {', '.join(unknown)} behind its “?”; known are {', '.join(sorted(_KNOWN))}")
    words = {name: value if isinstance(value, str) else value[-1] for name, value in query.items()}
    if words.get("channel_binding") == "require":
        raise DatabaseUrlError(
            "asks for channel_binding=require, which asyncpg does not have: leave that out, and say "
            "sslmode=verify-full, by which the server proves who it is"
        )
    mode, root = words.get("sslmode", "prefer"), words.get("sslrootcert")
    if mode not in (*_UNVERIFIED, *_VERIFIED):
        raise DatabaseUrlError(f"has an sslmode that is none of {', '.join((*_UNVERIFIED, *_VERIFIED))}")
    if (unverified := _UNVERIFIED.get(mode)) is not None:
        if root is not None:
            raise DatabaseUrlError(f"has an sslrootcert, which sslmode={mode} would not look at: say verify-full")
        return unverified
    if mode == "verify-ca" and root in (None, _SYSTEM):
        raise DatabaseUrlError(
            "has sslmode=verify-ca and no sslrootcert of your own, so whoever has a certificate of any authority could "
            "be the server: say verify-full"
        )
    try:
        context = ssl.create_default_context(cafile=None if root in (None, _SYSTEM) else root)
    except (OSError, ssl.SSLError) as error:
        raise DatabaseUrlError(
            f"has an sslrootcert that cannot be used ({root}: {error.strerror or error}): a PEM file, or {_SYSTEM}"
        ) from error
    context.check_hostname = mode == "verify-full"
    return context


def is_verified(url: str) -> bool:
    """Tell whether a server that is not the one asked for would be noticed."""
    return isinstance(tls(url), ssl.SSLContext)


async def refuse_another_server(url: str) -> None:
    """Connect once, where the string demands TLS; a server that does not answer now is left for later.

    Raises:
        DatabaseRefusedError: It has no TLS, or its certificate is not what was asked for.
    """
    if tls(url) in ("disable", "allow", "prefer"):
        return
    try:
        connection = await asyncpg.connect(
            make_url(url).set(drivername="postgresql", query={}).render_as_string(False),
            ssl=tls(url),
            timeout=_PROBE_TIMEOUT,
        )
    except ssl.SSLCertVerificationError as error:
        raise DatabaseRefusedError(f"the certificate of the server does not hold: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise DatabaseRefusedError(f"TLS cannot be agreed upon with the server: {error.reason}") from error
    except ConnectionError as error:
        if "SSL" in str(error):
            raise DatabaseRefusedError("the server has no TLS, and the connection string demands it") from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return
    else:
        await connection.close(timeout=_PROBE_TIMEOUT)


def _no_name() -> str:
    return ""


def _limited(limits: Mapping[str, float]) -> type[asyncpg.Connection]:
    """Make the class of connections whose every transaction begins with these limits.

    They travel in the message that begins it: no round trip more, and a pooler, which passes no settings of a session
    on, passes them on as it does any statement. (As settings of the connection PgBouncer refuses them.)
    """
    settings = {name: f"SET LOCAL {name} = {round(seconds * 1000)};" for name, seconds in limits.items()}

    class Limited(asyncpg.Connection):
        @override
        async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
            if not args and query.startswith("BEGIN"):
                has_all = self.get_server_version() >= (17,)
                query += "".join(setting for name, setting in settings.items() if has_all or name != _SINCE_17)
            status: str = await super().execute(query, *args, timeout=timeout)
            return status

    return Limited
