"""Settings of audit-worker: those of every service."""

from chassis.settings import ServiceSettings


class AuditWorkerSettings(ServiceSettings):
    """What audit-worker reads from the environment."""
