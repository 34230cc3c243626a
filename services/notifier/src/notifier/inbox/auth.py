"""Who may do what with notifications: a route's signature names its guard."""

from typing import Annotated

from fastapi import Depends

from chassis.identity import Principal, get_current_user

# Ownership is part of every statement (`repository._owned_by`); these say what a credential must allow.
# No role reads the notifications of others.
NotificationRead = Annotated[Principal, Depends(get_current_user)]
NotificationWrite = Annotated[Principal, Depends(get_current_user)]
