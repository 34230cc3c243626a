"""Settings of notifier: those of every consumer."""

from chassis.settings import ConsumerSettings


class NotifierSettings(ConsumerSettings):
    """What notifier reads from the environment."""
