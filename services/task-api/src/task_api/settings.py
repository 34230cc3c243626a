"""Settings of task-api: those of every service, and the relay's."""

from typing import Annotated

from pydantic import Field

from chassis.settings import Seconds, ServiceSettings


class TaskApiSettings(ServiceSettings):
    """What task-api reads from the environment."""

    relay_batch_size: Annotated[int, Field(ge=1, le=1000)] = 200
    relay_poll_interval: Seconds = 0.5
    relay_publish_timeout: Seconds = 5.0

    bulk_max_body_bytes: Annotated[int, Field(ge=1024)] = 1_048_576
    """Largest body of a bulk request."""
    idempotency_lifetime: Annotated[int, Field(ge=1, le=2_592_000)] = 86_400
    """Seconds for which the answer to an `Idempotency-Key` is kept."""
