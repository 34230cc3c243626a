"""What each role may do inside of an engagement: the one table.

What a credential may be used for is another question, with a table of its own (`chassis.identity.permissions`).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """Of a member in one engagement."""

    OWNER = "owner"
    EDITOR = "editor"
    VIEWER = "viewer"


class Act(StrEnum):
    """What can be done inside of an engagement."""

    READ = "read"
    """Its tasks, comments, changes and completions; who is a member."""
    WRITE = "write"
    """Its tasks, and comments of one's own."""
    MODERATE = "moderate"
    """Delete what others have commented."""
    MANAGE = "manage"
    """Its name, members, roles and invitations; delete it."""


MAY: Final[Mapping[Role, frozenset[Act]]] = {
    Role.OWNER: frozenset({Act.READ, Act.WRITE, Act.MODERATE, Act.MANAGE}),
    Role.EDITOR: frozenset({Act.READ, Act.WRITE}),
    Role.VIEWER: frozenset({Act.READ}),
}
"""Role → what it allows. Whoever has no role in an engagement may do nothing there."""


def roles_for(act: Act) -> list[Role]:
    """Give the roles that allow something, the mightiest first."""
    return [role for role in Role if act in MAY[role]]
