"""`/api/v1/users/me`: parse, guard, one call, one answer."""

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from starlette.responses import JSONResponse, StreamingResponse

from chassis.database import DbSession
from chassis.errors import documented
from chassis.identity import GuardedRoute
from task_api.portability.routes import get_transfer
from task_api.portability.transfers import TooManyTransfersError, TransfersExhaustedError
from task_api.tasks.answers import Conditions
from task_api.tasks.conditions import PreconditionFailedError
from task_api.users.auth import ProfileRead, ProfileWrite
from task_api.users.exporting import AccountExport
from task_api.users.profile import Profile
from task_api.users.schemas import ProfileOut, ProfilePatch
from task_api.users.service import Profiles

_WHAT: Final = "profile"
_ETAG: Final = {
    "ETag": {
        "description": "Names this version of the profile; for `If-Match` and `If-None-Match`",
        "schema": {"type": "string", "examples": ['"profile-3"']},
    }
}
_SHOWS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The profile", "headers": _ETAG},
    304: {"description": "The profile is as `If-None-Match` says the caller has it", "headers": _ETAG},
    **documented(PreconditionFailedError),
}
_CHANGES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The profile as it is now", "headers": _ETAG},
    **documented(PreconditionFailedError),
}
router = APIRouter(prefix="/users/me", tags=["users"], route_class=GuardedRoute)


def get_profiles(request: Request) -> Profiles:
    """Give a route the rules."""
    profiles: Profiles = request.app.state.profiles
    return profiles


def get_account_export(request: Request) -> AccountExport:
    """Give a route the rules of exports."""
    export: AccountExport = request.app.state.account_export
    return export


ProfileService = Annotated[Profiles, Depends(get_profiles)]
Export = Annotated[AccountExport, Depends(get_account_export)]


@router.get("", summary="Show one's own profile", response_model=ProfileOut, responses=_SHOWS)
async def get_profile(
    user: ProfileRead, session: DbSession, profiles: ProfileService, conditions: Conditions
) -> Response:
    """Show what the caller said about themselves, and defaults for what they did not."""
    profile = await profiles.get(user, session)
    if conditions.is_fresh(profile.etag, what=_WHAT):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": profile.etag})
    return _shown(profile)


@router.patch("", summary="Change one's own profile", response_model=ProfileOut, responses=_CHANGES)
async def patch_profile(
    user: ProfileWrite, session: DbSession, profiles: ProfileService, patch: ProfilePatch, conditions: Conditions
) -> Response:
    """Merge changes into the caller's profile; sent again, the same changes do nothing.

    Takes no `Idempotency-Key`: an answer that is kept would keep name and e-mail address in the clear.
    """
    return _shown(await profiles.patch(user, session, patch, conditions))


@router.get(
    "/export",
    summary="Export everything that is one's own",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One JSON document, streamed; it is whole when it ends with `}`",
            "headers": {"Content-Disposition": {"description": "A file name", "schema": {"type": "string"}}},
            "content": {"application/json": {"schema": {"type": "object"}, "example": {"format": "taskwire-account"}}},
        },
        **documented(TooManyTransfersError, TransfersExhaustedError),
    },
    dependencies=[Depends(get_transfer, scope="request")],
)
async def export_account(user: ProfileRead, export: Export) -> StreamingResponse:
    """Give all that is the caller's in one file: profile, tasks, deleted ones too, comments, completions and the rest.

    The rest are calendar feeds and API keys, without their secrets, and the engagements that the caller is a member
    of. What other services hold, and the tasks of engagements, are at the addresses that it names.
    """
    headers = {
        "Content-Disposition": 'attachment; filename="taskwire-account.json"',
        "Cache-Control": "private, no-store",
    }
    return StreamingResponse(await export.begin(user), media_type="application/json", headers=headers)


def _shown(profile: Profile) -> Response:
    body = ProfileOut.of(profile).model_dump(mode="json")
    return JSONResponse(body, headers={"ETag": profile.etag})
