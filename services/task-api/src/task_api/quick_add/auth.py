"""Who may add tasks in plain words: a route's signature names its guard."""

from typing import Annotated

from fastapi import Depends

from chassis.identity import Principal, get_current_user

QuickAddUse = Annotated[Principal, Depends(get_current_user)]
