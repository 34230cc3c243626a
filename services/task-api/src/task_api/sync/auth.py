"""Who may read the feed: a route's signature names its guard."""

from typing import Annotated

from chassis.identity import Permission, Principal, requires

# Whose changes are read is part of the statement (`repository.page_statement`) and of the cursor.
FeedRead = Annotated[Principal, requires(Permission.TASKS_READ)]
