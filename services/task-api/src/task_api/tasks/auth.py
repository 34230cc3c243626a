"""Who may do what with tasks: a route's signature names its guard."""

from typing import Annotated

from fastapi import Depends

from chassis.identity import Principal, get_current_user

# Ownership is part of every statement (`repository._owned_by`); these say what a credential must allow.
TaskRead = Annotated[Principal, Depends(get_current_user)]
TaskWrite = Annotated[Principal, Depends(get_current_user)]
