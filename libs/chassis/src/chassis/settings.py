"""Settings that every service has, read from the environment and checked at start.

A service that cannot run with what it was given stops at once and names the variable that is wrong,
never its value.
"""

import sys
from typing import Annotated, Literal, NoReturn, Self, TypeVar

from pydantic import AfterValidator, Field, HttpUrl, PostgresDsn, SecretStr, ValidationError, model_validator
from pydantic_settings import SettingsConfigDict

from chassis.database_connection import tls
from chassis.edge_settings import EdgeSettings
from chassis.limits import MAX_EVENTS_PER_DELIVERY
from chassis.proxy_settings import ProxyKeys, ProxyRoles
from chassis.secrecy import secret_values, weakness

ENV_PREFIX = "TASKWIRE_"
MIN_SECRET_BYTES = 32  # RFC 7518 section 3.2: an HS256 key is at least as long as its hash

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=600)]


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"needs at least {MIN_SECRET_BYTES} bytes")
    return secret


def _can_be_had(url: PostgresDsn) -> PostgresDsn:
    tls(str(url))
    return url


DatabaseUrl = Annotated[PostgresDsn, AfterValidator(_can_be_had)]
"""A connection string of PostgreSQL; what it says about TLS was looked at."""
ServiceSecret = Annotated[SecretStr, AfterValidator(_long_enough)]
"""What our services demand of each other."""
SettingsT = TypeVar("SettingsT", bound="ServiceSettings")


class ServiceSettings(EdgeSettings):
    """What every service needs to know; a service adds its own in a subclass.

    Our variables begin with `TASKWIRE_`; those of the sidecar keep the names Dapr gave them.
    """

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    environment: Literal["development", "production"] = "production"
    host: str = "127.0.0.1"
    port: Port
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    max_body_bytes: Annotated[int, Field(ge=1024)] = 65_536
    drain_delay: Annotated[float, Field(ge=0, le=600)] = 0.0
    shutdown_grace: Annotated[int, Field(ge=1, le=600)] = 20
    send_timeout: Annotated[int, Field(ge=1, le=600)] = 20

    database_url: DatabaseUrl
    database_direct_url: DatabaseUrl | None = None
    """Where `migrate` connects, when `database_url` is a pooler: its lock is of a session."""
    database_pooler: Literal["none", "transaction"] = "none"
    database_pool_size: Annotated[int, Field(ge=1, le=200)] = 10
    database_pool_overflow: Annotated[int, Field(ge=0, le=200)] = 5
    database_pool_timeout: Seconds = 2.0
    database_connect_timeout: Seconds = 3.0
    database_statement_timeout: Seconds = 5.0
    database_lock_timeout: Seconds = 3.0
    database_idle_timeout: Seconds = 60.0
    database_transaction_timeout: Seconds = 60.0

    auth_issuer: Annotated[str, Field(min_length=1)]
    auth_audience: Annotated[str, Field(min_length=1)]
    auth_hs256_secret: SecretStr | None = None
    auth_jwks_url: HttpUrl | None = None
    auth_jwks_max_age: Annotated[int, Field(ge=600, le=604_800)] = 86_400
    auth_clock_skew: Annotated[int, Field(ge=0, le=300)] = 30
    proxy_keys: ProxyKeys = Field(default_factory=dict)
    proxy_roles: ProxyRoles = ()

    dapr_http_port: Annotated[Port, Field(validation_alias="DAPR_HTTP_PORT")] = 3500
    dapr_grpc_port: Annotated[Port, Field(validation_alias="DAPR_GRPC_PORT")] = 50001
    dapr_api_token: Annotated[SecretStr, Field(validation_alias="DAPR_API_TOKEN", min_length=16)]
    app_api_token: Annotated[SecretStr, Field(validation_alias="APP_API_TOKEN", min_length=16)]

    erasure_secret: SecretStr | None = None
    """Key of the digests by which erased users are recognised; optional in development only. It must never change."""

    @model_validator(mode="after")
    def _exactly_one_source_of_keys(self) -> Self:
        secret, jwks = self.auth_hs256_secret, self.auth_jwks_url
        if (secret is None) == (jwks is None):
            raise ValueError("set exactly one of TASKWIRE_AUTH_JWKS_URL and TASKWIRE_AUTH_HS256_SECRET")
        if secret is not None and self.environment != "development":
            raise ValueError(
                "TASKWIRE_AUTH_HS256_SECRET is for TASKWIRE_ENVIRONMENT=development only: set TASKWIRE_AUTH_JWKS_URL"
            )
        if secret is not None and len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"TASKWIRE_AUTH_HS256_SECRET needs at least {MIN_SECRET_BYTES} bytes")
        if jwks is not None and jwks.scheme != "https" and self.environment != "development":
            raise ValueError("TASKWIRE_AUTH_JWKS_URL must be an https URL outside development")
        return self

    @model_validator(mode="after")
    def _secrets_can_be_relied_on(self) -> Self:
        if self.environment == "development":
            return self
        secrets = self.secrets()
        problems = [f"{name} {why}" for name, secret in secrets.items() if (why := weakness(secret)) is not None]
        owners: dict[str, list[str]] = {}
        for name, secret in secrets.items():
            owners.setdefault(secret, []).append(name)
        problems += [
            f"{' and '.join(names)} are the same: whoever learns one has the other"
            for names in owners.values()
            if names[1:]
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def secrets(self) -> dict[str, str]:
        """Give every secret in these settings under the variable it came from, the database's password among them.

        A setting that holds several has them numbered: `TASKWIRE_KEYS[1]`.
        """
        found: dict[str, str] = {}
        for name in type(self).model_fields:
            if name == "database_direct_url" and self._is_of_one_role():
                continue
            values = list(secret_values(getattr(self, name)))
            for number, value in enumerate(values):
                found[variable_of(type(self), name) + (f"[{number}]" if values[1:] else "")] = value
        return found

    def _is_of_one_role(self) -> bool:
        """Tell whether both connection strings have one password: of one secret, two ways to one database."""
        return list(secret_values(self.database_direct_url)) == list(secret_values(self.database_url))

    @model_validator(mode="after")
    def _erased_users_are_recognised(self) -> Self:
        if self.erasure_secret is None and self.environment != "development":
            raise ValueError("set TASKWIRE_ERASURE_SECRET: erased users are recognised by digests made with it")
        if self.erasure_secret is not None and len(self.erasure_secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"TASKWIRE_ERASURE_SECRET needs at least {MIN_SECRET_BYTES} bytes")
        return self

    @property
    def erasure_key(self) -> bytes:
        """The key of those digests; in development that of the tokens does, of which replicas have the same."""
        secret = self.erasure_secret or self.auth_hs256_secret
        return secret.get_secret_value().encode() if secret is not None else b"development"


class ConsumerSettings(ServiceSettings):
    """What a service that takes events needs besides.

    Attributes:
        delivery_batch_size: Events delivered together, at most.
        introspection_url: Where task-api says what an API key is, and beside it who is in an engagement; without it no
            keys are taken here, and members are not known.
        introspection_secret: What task-api demands of who asks.
    """

    delivery_batch_size: Annotated[int, Field(ge=1, le=MAX_EVENTS_PER_DELIVERY)] = MAX_EVENTS_PER_DELIVERY
    introspection_url: HttpUrl | None = None
    introspection_secret: ServiceSecret | None = None

    @model_validator(mode="after")
    def _url_and_secret(self) -> Self:
        if self.introspection_url is not None and self.introspection_secret is None:
            raise ValueError("set TASKWIRE_INTROSPECTION_SECRET too: task-api demands it of who asks for API keys")
        return self


def load_settings(settings_class: type[SettingsT]) -> SettingsT:
    """Read the settings from the environment, or end the process with code 2 and a list of what is wrong."""
    try:
        return settings_class.model_validate({})
    except ValidationError as error:
        _stop(settings_class, error)


def variable_of(settings_class: type[ServiceSettings], field: str) -> str:
    """Give the environment variable that a field is read from."""
    alias = settings_class.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"{ENV_PREFIX}{field.upper()}"


def _stop(settings_class: type[ServiceSettings], error: ValidationError) -> NoReturn:
    lines = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        if name in settings_class.model_fields:
            name = variable_of(settings_class, name)
        message = "is not set" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
        lines.append(f"  {name} {message}".replace("   ", "  "))
    sys.stderr.write("cannot start, the environment is not complete:\n" + "\n".join(lines) + "\n")
    raise SystemExit(2)
