"""Alembic's door into this service; everything it does is in the chassis."""

import audit_worker.trail.models  # noqa: F401  (imported for its tables)
from audit_worker.models import Model
from chassis.migrations import run_environment

run_environment(Model.metadata)
