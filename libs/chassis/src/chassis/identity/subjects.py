"""Who a credential can be of. What stands for something else than a user is no user's name."""

import re
from typing import Final, TypeGuard

ENGAGEMENT_PREFIX: Final = "engagement:"
"""Begins the owner of a task that is in an engagement: `engagement:5`."""
ERASED: Final = "erased"
"""Stands where the id of somebody stood; who was called so would find all that is left of those who were erased."""
MAX_SUBJECT_CHARS: Final = 255
_SUBJECT = re.compile(rf"[^\x00-\x20\x7f\ud800-\udfff]{{1,{MAX_SUBJECT_CHARS}}}")


def is_subject(value: object) -> TypeGuard[str]:
    """Tell whether somebody can be called so; each authenticator asks, and the door asks once more for all of them."""
    if not isinstance(value, str) or not _SUBJECT.fullmatch(value):
        return False
    return value != ERASED and not value.startswith(ENGAGEMENT_PREFIX)
