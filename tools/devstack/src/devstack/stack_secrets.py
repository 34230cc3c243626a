"""What no part of a stack under test may log, and the tokens that its services accept."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from devstack.tokens import make_token


class StackSecrets(ABC):
    """The half of a stack under test that is the same for processes and for containers."""

    def __init__(self) -> None:
        """Begin with what the stack itself is locked with."""
        self._told: dict[str, str] = {}

    @abstractmethod
    def signing_secret(self) -> str:
        """What tokens of this stack are signed with."""

    @abstractmethod
    def own_secrets(self) -> Mapping[str, str]:
        """What the stack locks its data and its parts with, and a name for each."""

    def token(self, user: str, roles: Sequence[str] = (), lifetime: int = 3600) -> str:
        """A token the services of this stack accept."""
        token = make_token(self.signing_secret(), user, roles, lifetime)
        # Whole or without its signature, it must not be logged; its first part is the same for all of them.
        self.must_not_log(token.partition(".")[2], f"a token of {user}")
        return token

    def must_not_log(self, secret: str, what: str) -> None:
        """Have this stack fail at its end if some part has logged this."""
        self._told[secret] = what

    def secrets(self) -> Mapping[str, str]:
        """What no part may log, with a name for each: what the stack is locked with, and what tests added."""
        return {**self._told, **self.own_secrets()}
