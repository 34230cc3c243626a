"""Who may read the history: a route's signature names its guard."""

from typing import Annotated

from fastapi import Depends

from chassis.identity import Principal, get_current_user

# Ownership is part of every statement (`repository._matches`); this says what a credential must allow.
HistoryRead = Annotated[Principal, Depends(get_current_user)]
