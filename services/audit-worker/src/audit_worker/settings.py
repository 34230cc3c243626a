"""Settings of audit-worker: those of every service, and how events are delivered."""

from typing import Annotated

from pydantic import Field

from chassis.limits import MAX_EVENTS_PER_DELIVERY
from chassis.settings import ServiceSettings


class AuditWorkerSettings(ServiceSettings):
    """What audit-worker reads from the environment.

    Attributes:
        delivery_batch_size: Events delivered together, at most; 1 has each delivered alone.
    """

    delivery_batch_size: Annotated[int, Field(ge=1, le=MAX_EVENTS_PER_DELIVERY)] = MAX_EVENTS_PER_DELIVERY
