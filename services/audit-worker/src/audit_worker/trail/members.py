"""Who may read the entries of an engagement: task-api is asked each time, and no answer is kept.

A page is rare, and whoever is removed reads nothing of what comes after: an answer that is kept would say who *was* a
member. Without an answer nothing is read.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final
from urllib.parse import urljoin

import httpx2
from fastapi import Depends, FastAPI, Request

from chassis.errors import ForbiddenError, NotFoundError, UnavailableError
from chassis.logging import get_logger
from chassis.questions import UNANSWERED, Questions
from chassis.resilience import CallPolicy, CircuitOpenError
from chassis.settings import ConsumerSettings

POLICY: Final = CallPolicy("membership", timeout=2.0, attempts=2, max_backoff=0.5, recovery_timeout=2.0)
_BESIDE_INTROSPECTION: Final = "../engagements/membership"
_READ: Final = "read"
_UNKNOWN: Final = "Nobody can say now who is in this engagement."
_logger = get_logger(__name__)


class EngagementNotFoundError(NotFoundError):
    """There is no such engagement, or it was deleted."""

    code = "engagement_not_found"


class EngagementForbiddenError(ForbiddenError):
    """The caller is not in the engagement."""

    code = "engagement_forbidden"


class MembershipUnknownError(UnavailableError):
    """Who is in the engagement cannot be found out now."""

    code = "membership_unknown"


class Members:
    """Lets pass who may read the entries of an engagement."""

    def __init__(self, questions: Questions | None) -> None:
        """Say whom to ask; None: nobody, as the settings do not say."""
        self._questions = questions

    async def check_may_read(self, user_id: str, engagement_id: int) -> None:
        """Let a member pass.

        Raises:
            EngagementForbiddenError: Not in it, or nobody was named who could say.
            EngagementNotFoundError: No such engagement.
            MembershipUnknownError: There is no answer right now.
        """
        if self._questions is None:
            raise EngagementForbiddenError("This service is not set up to read engagements: it knows no members.")
        form = {"engagement_id": str(engagement_id), "user_id": user_id}
        try:
            acts = await self._questions.ask(form, _acts)
        except CircuitOpenError as error:
            raise MembershipUnknownError(_UNKNOWN, retry_after=error.retry_after) from error
        except UNANSWERED as error:
            _logger.warning("the question for a member failed", engagement_id=engagement_id, error=repr(error))
            raise MembershipUnknownError(_UNKNOWN) from error
        if acts is None:
            raise EngagementNotFoundError(f"There is no engagement {engagement_id}.")
        if _READ not in acts:
            raise EngagementForbiddenError(f"You are not a member of engagement {engagement_id}.")


def _acts(body: bytes) -> frozenset[str] | None:
    answer = json.loads(body)
    found, may = (answer.get("found"), answer.get("may")) if isinstance(answer, dict) else (None, None)
    if type(found) is not bool or not isinstance(may, list) or not all(isinstance(act, str) for act in may):
        raise ValueError("not an answer about a member")
    return frozenset(may) if found else None


@asynccontextmanager
async def knowing_members(app: FastAPI, settings: ConsumerSettings) -> AsyncIterator[None]:
    """Let an application ask who is a member while the block lasts, if its settings say whom."""
    if settings.introspection_url is None or settings.introspection_secret is None:
        app.state.members = Members(None)
        yield
        return
    url, secret = str(settings.introspection_url), settings.introspection_secret.get_secret_value()
    # No timeout of the client's own: the policy of the call bounds each attempt as a whole.
    async with httpx2.AsyncClient(timeout=None, follow_redirects=False) as client:
        app.state.members = Members(Questions(urljoin(url, _BESIDE_INTROSPECTION), secret, client, POLICY))
        yield


def get_members(request: Request) -> Members:
    """Give a route who knows the members."""
    members: Members = request.app.state.members
    return members


KnownMembers = Annotated[Members, Depends(get_members)]
