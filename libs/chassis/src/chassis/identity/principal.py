"""A verified caller."""

from dataclasses import dataclass, field

from chassis.identity.permissions import Permission, permissions_of


@dataclass(frozen=True)
class Principal:
    """A verified caller, and what the credential lets them do.

    Attributes:
        id: Who it is, the `sub` of a token; owner of what the caller creates.
        roles: Names of `ROLES`; others give nothing.
        scopes: What the credential is narrowed to; None: it is not, and all that the roles allow is allowed.
        expires_at: Unix time at which the credential ends, for what outlasts a request; None when it does not.
        key_id: Public id of the API key that was sent, for what outlasts a request; None when it was none.
    """

    id: str
    roles: frozenset[str] = frozenset()
    scopes: frozenset[Permission] | None = None
    expires_at: float | None = field(default=None, compare=False)
    key_id: str | None = field(default=None, compare=False)

    def may(self, permission: Permission) -> bool:
        """Tell whether the roles allow something and the credential was made for it."""
        return self.could(permission) and (self.scopes is None or permission in self.scopes)

    def could(self, permission: Permission) -> bool:
        """Tell whether the roles allow something, whatever the credential was made for."""
        return permission in permissions_of(self.roles)
