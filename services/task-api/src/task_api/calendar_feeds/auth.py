"""Who may have feeds: a route's signature names its guard. Who may read one, its token alone says."""

from typing import Annotated

from fastapi import Depends

from chassis.identity import Principal, get_current_user

# Ownership is part of every statement (`repository`); these say what a credential must allow.
CalendarFeedRead = Annotated[Principal, Depends(get_current_user)]
CalendarFeedWrite = Annotated[Principal, Depends(get_current_user)]
