"""Settings of task-api: those of every service, the relay's, and those of sync and live."""

import hmac
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from chassis.settings import MIN_SECRET_BYTES, Seconds, ServiceSecret, ServiceSettings
from task_api.api_keys.peppers import Peppers


def _peppers(value: object) -> object:
    return Peppers.read(value) if isinstance(value, str) else value


class TaskApiSettings(ServiceSettings):
    """What task-api reads from the environment.

    Attributes:
        cursor_secret: Signs the cursors of lists and of the feed; the same in every replica. Optional in
            development only.
        api_key_peppers: What API keys are hashed with, as `id:secret,id:secret`, the current one first; the same in
            every replica. Optional in development only.
        introspection_secret: Demanded of services that ask what an API key is; without it nobody may.
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
