"""Who may read what of the trail."""

from typing import Annotated, Final

from fastapi import Depends

from chassis.identity import Principal, get_current_user

READ_EVERYTHING: Final = ("auditor", "admin")
"""Roles that see the entries of everybody."""

TrailRead = Annotated[Principal, Depends(get_current_user)]


def visible_owner(user: Principal) -> str | None:
    """Tell whose entries the user sees: only their own, or everybody's, which is None."""
    return None if user.has_any_role(*READ_EVERYTHING) else user.id
