"""What can be allowed, and which role allows it: the one table, for all three services.

A permission says what a credential may be used for. Whose things it reaches is not said here: ownership is part of
every statement, and the roles within an engagement are a table of their own (`task_api.engagements.roles`).
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    """Something a credential may be used for; also the name of a scope of an API key."""

    TASKS_READ = "tasks:read"
    TASKS_WRITE = "tasks:write"
    CALENDAR_FEEDS_READ = "calendar-feeds:read"
    CALENDAR_FEEDS_WRITE = "calendar-feeds:write"
    ENGAGEMENTS_READ = "engagements:read"
    ENGAGEMENTS_WRITE = "engagements:write"
    PROFILE_READ = "profile:read"
    PROFILE_WRITE = "profile:write"
    NOTIFICATIONS_READ = "notifications:read"
    NOTIFICATIONS_WRITE = "notifications:write"
    AUDIT_READ = "audit:read"
    AUDIT_READ_ALL = "audit:read-all"
    GAPS_READ = "gaps:read"
    DEAD_LETTERS_READ = "dead-letters:read"
    DEAD_LETTERS_WRITE = "dead-letters:write"
    API_KEYS_MANAGE = "api-keys:manage"
    ACCOUNT_ERASE = "account:erase"


EVERYBODY: Final = "user"
"""The role that every verified caller has, whatever the credential says."""

_OWN_THINGS: Final = frozenset(
    {
        Permission.TASKS_READ,
        Permission.TASKS_WRITE,
        Permission.CALENDAR_FEEDS_READ,
        Permission.CALENDAR_FEEDS_WRITE,
        Permission.ENGAGEMENTS_READ,
        Permission.ENGAGEMENTS_WRITE,
        Permission.PROFILE_READ,
        Permission.PROFILE_WRITE,
        Permission.NOTIFICATIONS_READ,
        Permission.NOTIFICATIONS_WRITE,
        Permission.AUDIT_READ,
        Permission.API_KEYS_MANAGE,
        Permission.ACCOUNT_ERASE,
    }
)
_EVERYBODYS_TRAIL: Final = frozenset({Permission.AUDIT_READ_ALL, Permission.GAPS_READ})

ROLES: Final[Mapping[str, frozenset[Permission]]] = {
    EVERYBODY: _OWN_THINGS,
    "auditor": _EVERYBODYS_TRAIL,
    "admin": _EVERYBODYS_TRAIL | {Permission.DEAD_LETTERS_READ, Permission.DEAD_LETTERS_WRITE},
}
"""Role → permissions. A caller has those of all their roles; a role that is not here gives nothing."""

NEVER_IN_A_KEY: Final = frozenset({Permission.API_KEYS_MANAGE, Permission.ACCOUNT_ERASE})
"""What only a person who has just signed in may do: a stolen key must not make more keys, nor end an account."""

IN_A_KEY: Final = ROLES[EVERYBODY] - NEVER_IN_A_KEY
"""The scopes that a key may have: nothing of a role that somebody gave its owner, and may take away again."""


def permissions_of(roles: Iterable[str]) -> frozenset[Permission]:
    """Give what somebody of these roles may do, who is at least a user."""
    return frozenset().union(*(ROLES.get(role, frozenset()) for role in (EVERYBODY, *roles)))


def roles_with(permission: Permission) -> list[str]:
    """Give the roles that allow something, sorted."""
    return sorted(role for role, permissions in ROLES.items() if permission in permissions)
