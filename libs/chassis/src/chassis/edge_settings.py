"""Settings of the edge of a service: who may speak to it from where, how often, how slowly."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_STORES: Final = ("valkey://", "valkeys://", "redis://", "rediss://")
_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?", re.ASCII)
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


def _listed(value: object) -> object:
    """Read `a, b` as two values; an environment variable is one string."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _origin(value: object) -> str:
    """Accept an origin only as a browser would write it (RFC 6454, section 6.1), since it is compared as text.

    Raises:
        ValueError: It is a wildcard, `null`, or more or less than scheme, host and port.
    """
    if not isinstance(value, str) or not _ORIGIN.fullmatch(value):
        raise ValueError("each origin is scheme://host[:port] in lower case, without a path; no * and no null")
    if value.endswith(_DEFAULT_PORTS[urlsplit(value).scheme]):
        raise ValueError("leave out the port of an origin where it is the scheme's own")
    return value


Origins = Annotated[Sequence[Annotated[str, BeforeValidator(_origin)]], NoDecode, BeforeValidator(_listed)]
Networks = Annotated[Sequence[Network], NoDecode, BeforeValidator(_listed)]


class EdgeSettings(BaseSettings):
    """What a service needs to know of the world around it.

    Attributes:
        cors_origins: Origins whose pages may use the API from a browser.
        trusted_proxies: Networks whose forwarded addresses are believed.
        forwarded_header: The one header in which those proxies forward; another one would come from the client.
        hsts: `auto` where a request came by https, as a trusted proxy says; `always` where that cannot be seen.
        head_timeout: Seconds for the line and the headers of a request.
        body_timeout: Seconds in which at least a kibibyte of a body, or its end, must arrive.
        rate_limit_per_user: Requests of one principal in a minute; other budgets are shares of it.
        rate_limit_per_address: Requests from one client address in a minute.
        rate_limit_failed_authentications: Credentials that do not hold, from one client address in a minute.
        rate_limit_store: URL of a Valkey or Redis that counts for all replicas; without one each counts for itself.
        rate_limit_store_timeout: Seconds after which a replica does without it.
    """

    cors_origins: Origins = ()
    trusted_proxies: Networks = ()
    forwarded_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    hsts: Literal["auto", "always", "off"] = "auto"
    head_timeout: Annotated[float, Field(gt=0, le=600)] = 10.0
    body_timeout: Annotated[float, Field(gt=0, le=600)] = 30.0
    rate_limit_per_user: Annotated[int, Field(ge=1)] = 3_000
    rate_limit_per_address: Annotated[int, Field(ge=1)] = 12_000
    rate_limit_failed_authentications: Annotated[int, Field(ge=1)] = 60
    rate_limit_store: SecretStr | None = None
    rate_limit_store_timeout: Annotated[float, Field(gt=0, le=600)] = 0.25

    @model_validator(mode="after")
    def _store_that_is_known(self) -> Self:
        store = self.rate_limit_store
        if store is not None and not store.get_secret_value().startswith(_STORES):
            raise ValueError("TASKWIRE_RATE_LIMIT_STORE must be a valkey://, valkeys://, redis:// or rediss:// URL")
        return self
