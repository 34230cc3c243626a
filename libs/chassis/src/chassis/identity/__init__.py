"""Who is calling, and what they may do: authenticators make a `Principal`, guards ask it for a permission."""

from chassis.identity.guarded_route import GuardedRoute
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
from chassis.identity.subjects import ENGAGEMENT_PREFIX, ERASED, MAX_SUBJECT_CHARS, is_subject

__all__ = [
    "ENGAGEMENT_PREFIX",
    "ERASED",
    "MAX_SUBJECT_CHARS",
    "ROLES",
    "CurrentUser",
    "Guard",
    "GuardedRoute",
    "Permission",
    "PermissionDeniedError",
    "Principal",
    "get_current_user",
    "is_subject",
    "operations_of",
    "requires",
]
