"""Alembic's door into this service; everything it does is in the chassis."""

import notifier.inbox.models  # noqa: F401  (imported for its tables)
from chassis.migrations import run_environment
from notifier.models import Model

run_environment(Model.metadata)
