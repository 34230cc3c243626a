"""What an API key is, for the services that do not have the keys (RFC 7662). No part of the public API."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from chassis.identity import Principal
from chassis.identity.guards import InvalidCredentialError
from chassis.paths import INTROSPECTION_PATH
from task_api.api_keys.authenticator import ApiKeyAuthenticator
from task_api.our_services import NOT_KEPT, form_of, from_a_service

router = APIRouter(include_in_schema=False)


def get_authenticator(request: Request) -> ApiKeyAuthenticator:
    """Give the route what verifies keys."""
    authenticator: ApiKeyAuthenticator = request.app.state.api_key_authenticator
    return authenticator


@router.post(INTROSPECTION_PATH, dependencies=[Depends(from_a_service)])
async def introspect_api_key(
    request: Request, authenticator: Annotated[ApiKeyAuthenticator, Depends(get_authenticator)]
) -> Response:
    """Say whose key it is and what it is for, or that it does not hold; never why."""
    try:
        principal = await authenticator.verify((await form_of(request, "token"))["token"])
    except InvalidCredentialError:
        return JSONResponse({"active": False}, headers=NOT_KEPT)
    return JSONResponse(_shown(principal), headers=NOT_KEPT)


def _shown(principal: Principal) -> dict[str, object]:
    shown: dict[str, object] = {
        "active": True,
        "token_type": "api_key",
        "client_id": principal.key_id,
        "sub": principal.id,
        "scope": " ".join(sorted(principal.scopes or ())),
    }
    # Whole seconds, as the RFC has it: rather a moment too early than too late.
    return shown if principal.expires_at is None else shown | {"exp": int(principal.expires_at)}
