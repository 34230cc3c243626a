"""What owns tasks: a user, or an engagement."""

from dataclasses import dataclass

from chassis.identity import ENGAGEMENT_PREFIX


def owner_of(engagement_id: int) -> str:
    """Give the owner of the tasks in an engagement, as `tasks.owner_id` has it."""
    return f"{ENGAGEMENT_PREFIX}{engagement_id}"


def engagement_of(owner_id: str) -> int | None:
    """Give the engagement that owns, or None when a user does."""
    if not owner_id.startswith(ENGAGEMENT_PREFIX):
        return None
    return int(owner_id.removeprefix(ENGAGEMENT_PREFIX))


@dataclass(frozen=True)
class Space:
    """Whose tasks somebody looks at: their own, or those of one engagement.

    Attributes:
        user_id: Who looks.
        engagement_id: None for one's own.
    """

    user_id: str
    engagement_id: int | None = None

    @property
    def owner_id(self) -> str:
        """Who owns the tasks in it."""
        return self.user_id if self.engagement_id is None else owner_of(self.engagement_id)

    @property
    def key(self) -> str:
        """What stands for this user in this space, and for nothing else: no user's name has a blank in it."""
        return self.user_id if self.engagement_id is None else f"{self.owner_id} {self.user_id}"
