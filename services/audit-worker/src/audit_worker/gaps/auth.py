"""Who may read about gaps."""

from typing import Annotated, Final

from fastapi import Depends

from chassis.errors import ForbiddenError
from chassis.identity import CurrentUser, Principal

READ_GAPS: Final = ("auditor", "admin")
"""Nobody else, not even for tasks of one's own: whose task it is was said by the events that are missing."""


class GapsForbiddenError(ForbiddenError):
    """Only auditors and admins may see what the trail is missing."""

    code = "gaps_forbidden"


def get_auditor(user: CurrentUser) -> Principal:
    """Give a route its caller, who must have one of the roles.

    Raises:
        GapsForbiddenError: The caller has none of them.
    """
    if not user.has_any_role(*READ_GAPS):
        raise GapsForbiddenError("This needs the role auditor or admin.")
    return user


GapsRead = Annotated[Principal, Depends(get_auditor)]
