"""`/api/v1/api-keys`: parse, guard, one call, one answer."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request, status

from chassis.database import DbSession
from chassis.errors import documented
from chassis.identity import GuardedRoute
from chassis.pagination import MAX_BIGINT, Page
from task_api.api_keys.auth import ApiKeyManage
from task_api.api_keys.schemas import ApiKeyCreate, ApiKeyIssued, ApiKeyOut, ApiKeyPatch, ApiKeyRotation
from task_api.api_keys.service import (
    ApiKeyEndedError,
    ApiKeyForbiddenError,
    ApiKeyListing,
    ApiKeyNotFoundError,
    ApiKeys,
    ScopesWidenedError,
    TooManyApiKeySecretsError,
    TooManyApiKeysError,
)
from task_api.tasks.cursors import CursorMismatchError, InvalidCursorError
from task_api.tasks.list_parameters import MAX_PAGE, ListCursorParameter

_ONE: Final = documented(ApiKeyForbiddenError, ApiKeyNotFoundError)

router = APIRouter(prefix="/api-keys", tags=["api keys"], route_class=GuardedRoute)


def get_api_keys(request: Request) -> ApiKeys:
    """Give a route the rules."""
    keys: ApiKeys = request.app.state.api_keys
    return keys


def get_listing(
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="keys on a page")] = 50,
    cursor: ListCursorParameter = None,
    total: Annotated[bool, Query(description="count all of one's keys too")] = False,
) -> ApiKeyListing:
    """Read what a list request asks for."""
    return ApiKeyListing(limit=limit, cursor=cursor, total=total)


Keys = Annotated[ApiKeys, Depends(get_api_keys)]
KeyId = Annotated[int, Path(ge=1, le=MAX_BIGINT, examples=[3])]


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    summary="Make an API key",
    response_description="The key; its secret is never shown again",
    responses=documented(TooManyApiKeysError),
)
async def create_api_key(user: ApiKeyManage, session: DbSession, keys: Keys, draft: ApiKeyCreate) -> ApiKeyIssued:
    """Make a key that acts for the caller, for what its scopes name.

    Takes no `Idempotency-Key`: an answer that is kept would keep the secret.
    """
    issued = await keys.create(user, session, draft)
    return ApiKeyIssued.of(issued.key, issued.text.text)


@router.get(
    "",
    summary="List one's own API keys",
    response_description="One page of keys",
    responses=documented(InvalidCursorError, CursorMismatchError),
)
async def list_api_keys(
    user: ApiKeyManage, session: DbSession, keys: Keys, wanted: Annotated[ApiKeyListing, Depends(get_listing)]
) -> Page[ApiKeyOut]:
    """List the caller's keys without their secrets, oldest first; those that were revoked too, for 30 days."""
    return (await keys.list_keys(user, session, wanted)).map(ApiKeyOut.model_validate)


@router.get("/{key_id}", summary="Get an API key", response_description="The key", responses=_ONE)
async def get_api_key(user: ApiKeyManage, session: DbSession, keys: Keys, key_id: KeyId) -> ApiKeyOut:
    """Get one of the caller's keys, without its secret."""
    return ApiKeyOut.model_validate(await keys.get(user, session, key_id))


@router.patch(
    "/{key_id}",
    summary="Rename or narrow an API key",
    response_description="The key as it is now",
    responses=_ONE | documented(ApiKeyEndedError, ScopesWidenedError),
)
async def change_api_key(
    user: ApiKeyManage, session: DbSession, keys: Keys, key_id: KeyId, patch: ApiKeyPatch
) -> ApiKeyOut:
    """Change the name of a key, or take scopes from it, from its next request on. It never gets more scopes."""
    return ApiKeyOut.model_validate(await keys.change(user, session, key_id, patch))


@router.post(
    "/{key_id}/rotate",
    summary="Give an API key another secret",
    response_description="The key; its new secret is never shown again",
    responses=_ONE | documented(ApiKeyEndedError, TooManyApiKeySecretsError),
)
async def rotate_api_key(
    user: ApiKeyManage, session: DbSession, keys: Keys, key_id: KeyId, rotation: ApiKeyRotation
) -> ApiKeyIssued:
    """Make another secret; those before it go on working for the overlap, 7 days at most, and for no longer.

    Takes no `Idempotency-Key`, see the create.
    """
    issued = await keys.rotate(user, session, key_id, rotation.overlap_seconds)
    return ApiKeyIssued.of(issued.key, issued.text.text)


@router.delete("/{key_id}", status_code=status.HTTP_204_NO_CONTENT, summary="Revoke an API key", responses=_ONE)
async def revoke_api_key(user: ApiKeyManage, session: DbSession, keys: Keys, key_id: KeyId) -> None:
    """End a key: its secrets open nothing from the next request on. Once more changes nothing, and is a 204 too."""
    await keys.revoke(user, session, key_id)
