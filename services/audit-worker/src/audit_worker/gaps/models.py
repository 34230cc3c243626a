"""A gap as it is read; its table belongs to the inbox (`chassis.gaps`)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Table

from audit_worker.models import Model

GAPS: Final[Table] = Model.metadata.tables["inbox_gaps"]


@dataclass(frozen=True)
class StoredGap:
    """A run of versions of a task that was, or is, missing from the trail."""

    id: int
    subject: str
    from_version: int
    to_version: int
    detected_at: datetime
    closed_at: datetime | None

    @property
    def task_id(self) -> int:
        """The task, which is the subject of its events."""
        return int(self.subject)
