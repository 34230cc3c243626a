"""Who may read the history: a route's signature names its guard."""

from typing import Annotated

from chassis.identity import Permission, Principal, requires

# Ownership is part of every statement (`repository._matches`); this says what a credential must allow.
HistoryRead = Annotated[Principal, requires(Permission.TASKS_READ)]
