"""Who may read the feed: a route's signature names its guard."""

from typing import Annotated

from fastapi import Depends

from chassis.identity import Principal, get_current_user

# Whose changes are read is part of the statement (`repository.page_statement`) and of the cursor.
FeedRead = Annotated[Principal, Depends(get_current_user)]
