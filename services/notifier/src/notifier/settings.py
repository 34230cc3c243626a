"""Settings of notifier: those of every service."""

from chassis.settings import ServiceSettings


class NotifierSettings(ServiceSettings):
    """What notifier reads from the environment."""
