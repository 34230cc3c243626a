"""The budgets there are. A service says in one table which of its routes have one of their own.

Everything counts for its principal (`USER`) or, where nobody has said who is calling, for its address (`ADDRESS`).
A route in the table counts for its own budget besides: that one is stricter, and the first to be used up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

WINDOW_SECONDS: Final = 60


class Key(Enum):
    """Whose requests are counted together."""

    PRINCIPAL = auto()
    ADDRESS = auto()


@dataclass(frozen=True)
class Budget:
    """What one principal or one address may ask for in a minute.

    Attributes:
        name: Names it in headers and metrics.
        key: Whose it is.
        one_in: It is one in this many of what that principal or address may ask for altogether.
    """

    name: str
    key: Key
    one_in: int = 1


USER: Final = Budget("user", Key.PRINCIPAL)
ADDRESS: Final = Budget("address", Key.ADDRESS)
FAILED_AUTHENTICATION: Final = Budget("failed-authentication", Key.ADDRESS)
"""Its number is a setting of its own. Once it is used up, no credential from that address is looked at."""

BULK: Final = Budget("bulk", Key.PRINCIPAL, one_in=25)
"""Requests that do hundreds of things at once."""
TRANSFER: Final = Budget("transfer", Key.PRINCIPAL, one_in=100)
"""Whole files, out or in."""
CREDENTIAL: Final = Budget("credential", Key.PRINCIPAL, one_in=100)
"""Whatever makes, shows or changes a credential, or cannot be taken back."""
SECRET_ADDRESS: Final = Budget("secret-address", Key.ADDRESS, one_in=40)
"""Routes whose path is the credential. A 404 there is a failed authentication."""

RouteBudgets = Mapping[tuple[str, str], Budget]
"""Method and template of a route, below `/api/v1` → its own budget."""
