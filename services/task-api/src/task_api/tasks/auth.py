"""Who may do what with tasks: a route's signature names its guard."""

from typing import Annotated

from chassis.identity import Permission, Principal, requires

# Ownership is part of every statement (`repository._owned_by`); these say what a credential must allow.
TaskRead = Annotated[Principal, requires(Permission.TASKS_READ)]
TaskWrite = Annotated[Principal, requires(Permission.TASKS_WRITE)]
