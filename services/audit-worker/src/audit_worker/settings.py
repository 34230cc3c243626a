"""Settings of audit-worker: those of every consumer."""

from chassis.settings import ConsumerSettings


class AuditWorkerSettings(ConsumerSettings):
    """What audit-worker reads from the environment."""
