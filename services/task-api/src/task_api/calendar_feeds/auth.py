"""Who may have feeds: a route's signature names its guard. Who may read one, its token alone says."""

from typing import Annotated

from chassis.identity import Permission, Principal, requires

# Ownership is part of every statement (`repository`); these say what a credential must allow.
CalendarFeedRead = Annotated[Principal, requires(Permission.CALENDAR_FEEDS_READ)]
CalendarFeedWrite = Annotated[Principal, requires(Permission.CALENDAR_FEEDS_WRITE)]
