"""What an API key is, for the services that do not have the keys (RFC 7662). No part of the public API."""

import hmac
from typing import Annotated, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from chassis.errors import BEARER, BEARER_REFUSED, FieldProblem, InvalidInputError, UnauthenticatedError
from chassis.identity import Principal
from chassis.identity.guards import InvalidCredentialError
from chassis.paths import INTROSPECTION_PATH
from task_api.api_keys.authenticator import ApiKeyAuthenticator
from task_api.settings import TaskApiSettings

_MAX_FIELDS: Final = 10
_HEADERS: Final = {"Cache-Control": "no-store"}

router = APIRouter(include_in_schema=False)


async def from_a_service(request: Request) -> None:
    """Let pass who knows the secret of our services; nobody does where none is set.

    Raises:
        UnauthenticatedError: The caller does not.
    """
    settings: TaskApiSettings = request.app.state.settings
    wanted = settings.introspection_secret
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    knows_it = wanted is not None and hmac.compare_digest(given.encode(), wanted.get_secret_value().encode())
    if scheme.lower() != "bearer" or not knows_it:
        challenge = BEARER_REFUSED if given else BEARER
        raise UnauthenticatedError("This is for services of Taskwire.", challenge=challenge)


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
        principal = await authenticator.verify(await _token(request))
    except InvalidCredentialError:
        return JSONResponse({"active": False}, headers=_HEADERS)
    return JSONResponse(_shown(principal), headers=_HEADERS)


async def _token(request: Request) -> str:
    try:
        form = parse_qs((await request.body()).decode("latin-1"), max_num_fields=_MAX_FIELDS)
    except ValueError:
        form = {}
    if len(form.get("token", ())) != 1:
        message = "Field required, once, in a form"
        raise InvalidInputError(f"token: {message}", errors=[FieldProblem(field="token", message=message)])
    return form["token"][0]


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
