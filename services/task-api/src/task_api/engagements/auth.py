"""Who may do what with engagements: a route's signature names its guard."""

from typing import Annotated

from chassis.identity import Permission, Principal, requires

# What a credential must allow. Which role in the engagement something needs is in `roles`, and `access` asks for it
# within the transaction that does it.
EngagementRead = Annotated[Principal, requires(Permission.ENGAGEMENTS_READ)]
EngagementWrite = Annotated[Principal, requires(Permission.ENGAGEMENTS_WRITE)]
