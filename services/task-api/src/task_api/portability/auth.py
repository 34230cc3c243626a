"""Who may export and import: a route's signature names its guard."""

from typing import Annotated

from chassis.identity import Permission, Principal, requires

# Exported are the caller's own tasks (`repository.OutlineRepository`), and what is imported belongs to the caller.
TaskExportRead = Annotated[Principal, requires(Permission.TASKS_READ)]
TaskImportWrite = Annotated[Principal, requires(Permission.TASKS_WRITE)]
