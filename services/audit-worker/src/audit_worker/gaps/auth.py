"""Who may read about gaps."""

from typing import Annotated

from chassis.errors import ForbiddenError
from chassis.identity import Permission, Principal, requires


class GapsForbiddenError(ForbiddenError):
    """Only auditors and admins may see what the trail is missing."""

    code = "gaps_forbidden"


# Not even for tasks of one's own: whose task it is was said by the events that are missing.
GapsRead = Annotated[Principal, requires(Permission.GAPS_READ, refusal=GapsForbiddenError)]
