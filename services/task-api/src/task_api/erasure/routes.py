"""`DELETE /api/v1/users/me` and how far that is: parse, guard, one call, one answer."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request, Response, status

from chassis.database import DbSession
from chassis.errors import documented
from chassis.identity import GuardedRoute
from chassis.paths import API_PREFIX
from task_api.erasure.auth import AccountErase
from task_api.erasure.schemas import ErasureOut, ErasureRequest
from task_api.erasure.service import ErasureForbiddenError, ErasureNotFoundError, Erasures, NotConfirmedError

router = APIRouter(prefix="/users/me", tags=["users"], route_class=GuardedRoute)


def get_erasures(request: Request) -> Erasures:
    """Give a route the rules."""
    erasures: Erasures = request.app.state.erasures
    return erasures


ErasureId = Annotated[UUID, Path(examples=["01a1fbfc-1054-7165-bf9a-d41f7bc8663b"])]
ErasureService = Annotated[Erasures, Depends(get_erasures)]


@router.delete(
    "",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Erase one's own account",
    response_description="The erasure; `Location` is where its progress can be read",
    responses=documented(NotConfirmedError),
)
async def erase_account(
    user: AccountErase, session: DbSession, erasures: ErasureService, wanted: ErasureRequest, response: Response
) -> ErasureOut:
    """Erase the caller and everything that is theirs, in all services, for good.

    From now on all other requests of the caller are answered 410 `account_erased`. Asked again, it gives the same
    erasure. An erased account does not come back, nor does another one under the same id.
    """
    begun = ErasureOut.of(await erasures.request(user, session, wanted.confirm))
    response.headers["Location"] = f"{API_PREFIX}{router.prefix}/erasure/{begun.id}"
    return begun


@router.get(
    "/erasure/{erasure_id}",
    summary="Tell how far an erasure is",
    response_description="Its state, and since when each service is done",
    responses=documented(ErasureForbiddenError, ErasureNotFoundError),
)
async def get_erasure(
    user: AccountErase, session: DbSession, erasures: ErasureService, erasure_id: ErasureId
) -> ErasureOut:
    """Tell how far the erasure of the caller is; readable when nothing else is, also after the end."""
    return ErasureOut.of(await erasures.show(user, session, erasure_id))
