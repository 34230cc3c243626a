"""Who may read and write a profile: each their own."""

from typing import Annotated

from chassis.identity import Permission, Principal, requires

ProfileRead = Annotated[Principal, requires(Permission.PROFILE_READ)]
ProfileWrite = Annotated[Principal, requires(Permission.PROFILE_WRITE)]
