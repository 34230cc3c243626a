"""Who may read what of the trail."""

from typing import Annotated

from chassis.identity import ENGAGEMENT_PREFIX, Permission, Principal, requires

TrailRead = Annotated[Principal, requires(Permission.AUDIT_READ)]


def reads_all(user: Principal) -> bool:
    """Tell whether the user sees the entries of everybody, and nobody needs to be asked."""
    return user.may(Permission.AUDIT_READ_ALL)


def visible_owner(user: Principal, engagement_id: int | None) -> str | None:
    """Tell whose entries a list is of: one engagement's, one's own, or everybody's, which is None."""
    if engagement_id is not None:
        return f"{ENGAGEMENT_PREFIX}{engagement_id}"
    return None if reads_all(user) else user.id
