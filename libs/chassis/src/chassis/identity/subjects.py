"""Who a credential can be of. What owns tasks besides users begins in a way that no user's name may."""

import re
from typing import Final, TypeGuard

ENGAGEMENT_PREFIX: Final = "engagement:"
"""Begins the owner of a task that is in an engagement: `engagement:5`."""
MAX_SUBJECT_CHARS: Final = 255
_SUBJECT = re.compile(rf"[^\x00-\x20\x7f\ud800-\udfff]{{1,{MAX_SUBJECT_CHARS}}}")


def is_subject(value: object) -> TypeGuard[str]:
    """Tell whether somebody can be called so; each authenticator asks, and the door asks once more for all of them."""
    return isinstance(value, str) and bool(_SUBJECT.fullmatch(value)) and not value.startswith(ENGAGEMENT_PREFIX)
