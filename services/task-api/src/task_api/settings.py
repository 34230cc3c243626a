"""Settings of task-api: those of every service, the relay's, and those of sync and live."""

import hmac
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from chassis.settings import MIN_SECRET_BYTES, Seconds, ServiceSecret, ServiceSettings
from task_api.api_keys.peppers import Peppers
from task_api.encryption import InvalidKeysError, Keyring


def _peppers(value: object) -> object:
    return Peppers.read(value) if isinstance(value, str) else value


class TaskApiSettings(ServiceSettings):
    """What task-api reads from the environment.

    Attributes:
        cursor_secret: Signs the cursors of lists and of the feed; the same in every replica. Optional in
            development only.
        api_key_peppers: What API keys are hashed with, as `id:secret,id:secret`, the current one first; the same in
            every replica. Optional in development only.
        introspection_secret: Demanded of services that ask what an API key is, or who is in an engagement; without it
            nobody may.
        sync_cursor_days: How long a cursor holds.
        task_retention_days: How long a deleted task can be restored, and is told to those who keep a copy; longer than
            any cursor holds.
        stream_poll_interval: Seconds between two looks for changes made by other replicas.
        stream_heartbeat: Seconds of silence after which a stream sends a comment.
        streams_per_user: Streams that one user may have open at this replica.
        streams_per_replica: Streams of all users together.
    """

    relay_batch_size: Annotated[int, Field(ge=1, le=1000)] = 500
    relay_poll_interval: Seconds = 0.5
    relay_publish_timeout: Seconds = 5.0

    bulk_max_body_bytes: Annotated[int, Field(ge=1024)] = 1_048_576
    """Largest body of a bulk request."""
    idempotency_lifetime: Annotated[int, Field(ge=1, le=2_592_000)] = 86_400
    """Seconds for which the answer to an `Idempotency-Key` is kept."""

    import_max_body_bytes: Annotated[int, Field(ge=1024)] = 67_108_864
    """Largest file that is imported."""
    import_max_tasks: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """Tasks in a file that is imported."""
    import_stall_timeout: Seconds = 20.0
    """Seconds in which some of such a file must arrive."""
    transfers_per_user: Annotated[int, Field(ge=1, le=100)] = 2
    """Exports and imports that one user may have under way at this replica."""
    transfers_per_replica: Annotated[int, Field(ge=1, le=1000)] = 20
    """Those of all users together."""

    api_key_peppers: Annotated[dict[str, SecretStr] | None, NoDecode, BeforeValidator(_peppers)] = None
    introspection_secret: ServiceSecret | None = None
    cursor_secret: SecretStr | None = None
    sync_cursor_days: Annotated[int, Field(ge=1, le=3650)] = 30
    task_retention_days: Annotated[int, Field(ge=2, le=36_500)] = 60
    stream_poll_interval: Annotated[float, Field(ge=0.05, le=60)] = 0.5
    stream_heartbeat: Annotated[float, Field(ge=0.1, le=300)] = 15.0
    streams_per_user: Annotated[int, Field(ge=1, le=1000)] = 5
    streams_per_replica: Annotated[int, Field(ge=1, le=100_000)] = 2000

    erasure_settle: Annotated[float, Field(ge=4, le=600)] = 15.0
    """Seconds that the erasure of an account takes at least, so that every replica has heard of it."""
    erasure_ask_again: Annotated[int, Field(ge=1, le=86_400)] = 300
    """Seconds after which services that have not confirmed an erasure are asked again."""
    erasure_alarm: Annotated[int, Field(ge=1, le=2_592_000)] = 900
    """Seconds after which an erasure that is not done is an alarm."""

    encryption_keys: SecretStr | None = None
    """`id:base64,…`: the first encrypts, all decrypt; optional in development only."""

    @model_validator(mode="after")
    def _what_is_sensitive_can_be_encrypted(self) -> Self:
        if self.encryption_keys is None and self.environment != "development":
            raise ValueError("set TASKWIRE_ENCRYPTION_KEYS: names and e-mail addresses are encrypted with it")
        try:
            _ = self.keyring
        except InvalidKeysError as error:
            raise ValueError(f"TASKWIRE_ENCRYPTION_KEYS cannot be used: {error}") from None
        return self

    @property
    def keyring(self) -> Keyring:
        """The keys of encrypted columns; in development one that is made of the secret of the tokens."""
        if self.encryption_keys is not None:
            return Keyring.parse(self.encryption_keys.get_secret_value())
        return Keyring({"development": hmac.digest(self.erasure_key, b"taskwire encryption", "sha256")})

    @model_validator(mode="after")
    def _cursors_can_be_signed(self) -> Self:
        if self.cursor_secret is None and self.environment != "development":
            raise ValueError("set TASKWIRE_CURSOR_SECRET: all replicas sign their cursors with it")
        if self.cursor_secret is not None and len(self.cursor_secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"TASKWIRE_CURSOR_SECRET needs at least {MIN_SECRET_BYTES} bytes")
        return self

    @model_validator(mode="after")
    def _keys_can_be_hashed(self) -> Self:
        if self.api_key_peppers is None and self.environment != "development":
            raise ValueError("set TASKWIRE_API_KEY_PEPPERS: API keys are hashed with it")
        return self

    @model_validator(mode="after")
    def _no_client_misses_a_tombstone(self) -> Self:
        if self.task_retention_days <= self.sync_cursor_days:
            raise ValueError(
                "TASKWIRE_TASK_RETENTION_DAYS must be more than TASKWIRE_SYNC_CURSOR_DAYS: else a client whose cursor"
                " still holds would never hear of tasks that were deleted and purged meanwhile"
            )
        return self

    @property
    def cursor_key(self) -> bytes:
        """The key cursors are signed with; in development that of the tokens does, of which replicas have the same."""
        secret = self.cursor_secret or self.auth_hs256_secret
        return secret.get_secret_value().encode() if secret is not None else b""

    @property
    def peppers(self) -> Peppers:
        """What API keys are hashed with; in development made of the key of cursors."""
        if self.api_key_peppers is not None:
            return Peppers.of({name: one.get_secret_value() for name, one in self.api_key_peppers.items()})
        made = hmac.digest(self.cursor_key, b"taskwire api keys 1", "sha256").hex()
        return Peppers.of({"development": made})
