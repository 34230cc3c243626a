"""Who may do what with notifications: a route's signature names its guard."""

from typing import Annotated

from chassis.identity import Permission, Principal, requires

# Ownership is part of every statement (`repository._owned_by`); these say what a credential must allow.
# No role reads the notifications of others.
NotificationRead = Annotated[Principal, requires(Permission.NOTIFICATIONS_READ)]
NotificationWrite = Annotated[Principal, requires(Permission.NOTIFICATIONS_WRITE)]
