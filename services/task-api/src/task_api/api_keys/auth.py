"""Who may manage keys: a route's signature names its guard. No key has this permission, so none makes another."""

from typing import Annotated

from chassis.identity import Permission, Principal, requires

# Ownership is part of every statement (`repository`); this says what a credential must allow.
ApiKeyManage = Annotated[Principal, requires(Permission.API_KEYS_MANAGE)]
