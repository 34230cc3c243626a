"""Alembic's door into this service; everything it does is in the chassis."""

import task_api.api_keys.models
import task_api.calendar_feeds.models
import task_api.comments.models
import task_api.engagements.models
import task_api.erasure.models
import task_api.history.models
import task_api.idempotency.models
import task_api.outbox.models
import task_api.portability.models
import task_api.tasks.models
import task_api.users.models  # noqa: F401  (imported for their tables)
from chassis.migrations import run_environment
from task_api.models import Model

run_environment(Model.metadata)
