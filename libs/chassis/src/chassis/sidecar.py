"""What every service and its sidecar have with each other, whatever is delivered."""

import hmac
from enum import StrEnum
from typing import Final

from fastapi import Request

from chassis.errors import ForbiddenError

APP_TOKEN_HEADER: Final = "dapr-api-token"  # noqa: S105 (a header name)


class Status(StrEnum):
    """What the sidecar is answered about one event; two of Dapr's three words."""

    SUCCESS = "SUCCESS"
    RETRY = "RETRY"


def refuse_all_but_the_sidecar(request: Request, app_api_token: str) -> None:
    """Let nobody deliver events but who has the token that daprd was given.

    Raises:
        ForbiddenError: It is not that one.
    """
    given = request.headers.get(APP_TOKEN_HEADER, "")
    if not hmac.compare_digest(given.encode(), app_api_token.encode()):
        raise ForbiddenError("Only the Dapr sidecar may deliver events.")
