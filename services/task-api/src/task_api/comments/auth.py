"""Who may do what with comments: a route's signature names its guard."""

from typing import Annotated

from chassis.identity import Permission, Principal, requires

# Ownership is part of every statement (`repository`); these say what a credential must allow.
CommentRead = Annotated[Principal, requires(Permission.TASKS_READ)]
CommentWrite = Annotated[Principal, requires(Permission.TASKS_WRITE)]
