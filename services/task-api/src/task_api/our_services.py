"""The door for our other services: who may ask, and how a question is read. No part of the public API."""

import hmac
from typing import Final
from urllib.parse import parse_qs

from fastapi import Request

from chassis.errors import BEARER, BEARER_REFUSED, FieldProblem, InvalidInputError, UnauthenticatedError
from task_api.settings import TaskApiSettings

_MAX_FIELDS: Final = 10
NOT_KEPT: Final = {"Cache-Control": "no-store"}
"""Headers of every answer: nobody on the way keeps it."""


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


async def form_of(request: Request, *names: str) -> dict[str, str]:
    """Read these fields of a form, each of which must be there once.

    Raises:
        InvalidInputError: One is not.
    """
    try:
        form = parse_qs((await request.body()).decode("latin-1"), max_num_fields=_MAX_FIELDS)
    except ValueError:
        form = {}
    for name in names:
        if len(form.get(name, ())) != 1:
            raise refused_field(name, "Field required, once, in a form")
    return {name: form[name][0] for name in names}


def refused_field(name: str, message: str) -> InvalidInputError:
    """Make the error of a field that says nothing we know."""
    return InvalidInputError(f"{name}: {message}", errors=[FieldProblem(field=name, message=message)])
