"""What somebody may do in an engagement, for the services that do not have the members. No part of the public API.

Asked for each page of the audit trail, and kept by nobody: a removal counts from its commit on.
"""

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from chassis.database import Database
from chassis.identity import is_subject
from chassis.pagination import MAX_BIGINT
from chassis.paths import MEMBERSHIP_PATH
from task_api.engagements.access import acts_of
from task_api.our_services import NOT_KEPT, form_of, from_a_service, refused_field

router = APIRouter(include_in_schema=False)


@router.post(MEMBERSHIP_PATH, dependencies=[Depends(from_a_service)])
async def tell_membership(request: Request) -> Response:
    """Say whether there is such an engagement, and what this user may do in it: nothing, when not a member."""
    form = await form_of(request, "engagement_id", "user_id")
    user_id, engagement_id = _user_of(form["user_id"]), _id_of(form["engagement_id"])
    database: Database = request.app.state.database
    async with database.session() as session:  # not before the form is here, however slowly it comes
        acts = await acts_of(session, user_id, engagement_id)
    return JSONResponse({"found": acts is not None, "may": sorted(acts or ())}, headers=NOT_KEPT)


def _user_of(given: str) -> str:
    if not is_subject(given):
        raise refused_field("user_id", "Nobody can be called so")
    return given


def _id_of(given: str) -> int:
    # No number of ours has more digits; `int` alone would take signs, blanks and digits of other scripts.
    number = int(given) if given.isascii() and given.isdecimal() and len(given) <= len(str(MAX_BIGINT)) else 0
    if not 1 <= number <= MAX_BIGINT:
        raise refused_field("engagement_id", "No id of an engagement")
    return number
