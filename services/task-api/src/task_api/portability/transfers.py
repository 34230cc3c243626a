"""How many exports and imports are under way at this replica."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from chassis.errors import ApiError, UnavailableError


class TooManyTransfersError(ApiError):
    """The user has as many exports and imports under way as one may."""

    status: ClassVar[int] = 429
    code: ClassVar[str] = "too_many_transfers"


class TransfersExhaustedError(UnavailableError):
    """This replica has as many exports and imports under way as it may."""

    code = "transfers_exhausted"


class Transfers:
    """Counts them."""

    def __init__(self, *, per_user: int, per_replica: int) -> None:
        self._per_user, self._per_replica = per_user, per_replica
        self._of_users: Counter[str] = Counter()

    @property
    def under_way(self) -> int:
        """How many there are."""
        return self._of_users.total()

    @contextmanager
    def one_more(self, user_id: str) -> Iterator[None]:
        """Hold a place until the block ends.

        Raises:
            TooManyTransfersError: The user has no more.
            TransfersExhaustedError: The replica has none.
        """
        if self._of_users[user_id] >= self._per_user:
            detail = (
                f"You have {self._per_user} exports and imports under way, which is the limit; wait for one to end."
            )
            raise TooManyTransfersError(detail, headers={"Retry-After": "5"})
        if self.under_way >= self._per_replica:
            raise TransfersExhaustedError(f"{self._per_replica} exports and imports are under way.", retry_after=5)
        self._of_users[user_id] += 1
        try:
            yield
        finally:
            self._of_users[user_id] -= 1
            if not self._of_users[user_id]:
                del self._of_users[user_id]
