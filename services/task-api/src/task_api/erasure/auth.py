"""Who may end an account: its user, by a token. They may look at it, too, when nothing else is open to them."""

from typing import Annotated

from chassis.identity import Permission, Principal, requires

AccountErase = Annotated[Principal, requires(Permission.ACCOUNT_ERASE, also_erased=True)]
