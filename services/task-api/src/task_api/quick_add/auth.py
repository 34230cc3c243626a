"""Who may add tasks in plain words: a route's signature names its guard."""

from typing import Annotated

from chassis.identity import Permission, Principal, requires

QuickAddUse = Annotated[Principal, requires(Permission.TASKS_WRITE)]
