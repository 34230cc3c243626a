"""Settings of task-api: those of every service, and the relay's."""

from typing import Annotated

from pydantic import Field, SecretStr

from chassis.settings import MIN_SECRET_BYTES, Seconds, ServiceSettings


class TaskApiSettings(ServiceSettings):
    """What task-api reads from the environment.

    Attributes:
        cursor_secret: What the cursors of lists are sealed with, the same in every replica. Without it a key is
            derived from `APP_API_TOKEN`; when either changes, clients begin their lists anew.
    """

    relay_batch_size: Annotated[int, Field(ge=1, le=1000)] = 200
    relay_poll_interval: Seconds = 0.5
    relay_publish_timeout: Seconds = 5.0
    cursor_secret: Annotated[SecretStr | None, Field(min_length=MIN_SECRET_BYTES)] = None

    def cursor_source(self) -> str:
        """Give the secret that the key of cursors is derived from."""
        return (self.cursor_secret or self.app_api_token).get_secret_value()
