"""Who may read what of the trail."""

from typing import Annotated

from chassis.identity import Permission, Principal, requires

TrailRead = Annotated[Principal, requires(Permission.AUDIT_READ)]


def visible_owner(user: Principal) -> str | None:
    """Tell whose entries the user sees: only their own, or everybody's, which is None."""
    return None if user.may(Permission.AUDIT_READ_ALL) else user.id
