"""Who may export and import: a route's signature names its guard."""

from typing import Annotated

from fastapi import Depends

from chassis.identity import Principal, get_current_user

# Exported are the caller's own tasks (`repository.OutlineRepository`), and what is imported belongs to the caller.
TaskExportRead = Annotated[Principal, Depends(get_current_user)]
TaskImportWrite = Annotated[Principal, Depends(get_current_user)]
