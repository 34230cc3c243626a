"""Who is calling, and what they may do: authenticators make a `Principal`, guards ask it for a permission."""

from chassis.identity.guards import (
    CurrentUser,
    Guard,
    PermissionDeniedError,
    get_current_user,
    operations_of,
    requires,
)
from chassis.identity.permissions import ROLES, Permission
from chassis.identity.principal import Principal

__all__ = [
    "ROLES",
    "CurrentUser",
    "Guard",
    "Permission",
    "PermissionDeniedError",
    "Principal",
    "get_current_user",
    "operations_of",
    "requires",
]
