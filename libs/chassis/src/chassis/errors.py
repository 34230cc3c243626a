"""The one error shape of every service: RFC 9457 problem details with `detail`, `code` and `request_id`.

Errors are classes that carry their status and code; a service raises them, nothing else decides about
HTTP. What was not foreseen becomes a 500 that says nothing of the inside.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from pydantic.config import JsonDict
from pydantic.json_schema import SkipJsonSchema
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import Scope

from chassis.correlation import current_request_id
from chassis.methods import allow_header

MEDIA_TYPE: Final = "application/problem+json"
_MAX_FIELDS: Final = 20
_SOME_REQUEST_ID: Final = "01a1fbfc-1054-7165-bf9a-d41f7bc8663b"
_NOT_JSON: Final = "The body is not valid JSON."
_TITLES: Final = {413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content"}
_CODES: Final = {
    400: "malformed_json",  # the framework raises 400 only for a body it cannot read
    404: "route_not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    415: "unsupported_media_type",
}


class FieldProblem(BaseModel):
    """One field that was refused and why; the refused value is never repeated."""

    field: str
    message: str


def _without_default(schema: JsonDict) -> None:
    schema.pop("default", None)


class Problem(BaseModel):
    """RFC 9457 problem details, with the members that every Taskwire error has."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str = Field(description="stable, for programs")
    request_id: str
    errors: Annotated[
        list[FieldProblem] | SkipJsonSchema[None],
        Field(description="the fields that were refused, in a 422", json_schema_extra=_without_default),
    ] = None


class ApiError(Exception):
    """An error that the caller should see.

    Attributes:
        status: HTTP status.
        code: Stable name for programs.
        documented_headers: Headers that every such answer has, with what they say.
        headers: Response headers that belong to this error.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    documented_headers: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        detail: str,
        *,
        errors: list[FieldProblem] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})


BEARER: Final = "Bearer"
"""The challenge for who has sent no credential (RFC 6750, section 3)."""
BEARER_REFUSED: Final = f'{BEARER} error="invalid_token"'
"""The one for who has sent something that does not hold."""


class UnauthenticatedError(ApiError):
    """No credential, or one that does not hold."""

    status, code = 401, "unauthenticated"
    documented_headers: ClassVar[Mapping[str, str]] = {
        "WWW-Authenticate": '`Bearer`, with `error="invalid_token"` when a token was sent; '
        '`Taskwire-HMAC-SHA256 error="invalid_signature"` when a signature was'
    }

    def __init__(self, detail: str, *, challenge: str = BEARER_REFUSED) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": challenge})


class ForbiddenError(ApiError):
    """The caller is known and may not do this."""

    status, code = 403, "forbidden"


class NotFoundError(ApiError):
    """There is no such thing."""

    status, code = 404, "not_found"


class InvalidInputError(ApiError):
    """The request is well formed and its content is not acceptable."""

    status, code = 422, "validation_error"


class UnavailableError(ApiError):
    """Something this service depends on does not answer; the same request may work soon.

    Args:
        detail: What is missing, in words for a caller.
        retry_after: Seconds after which a retry makes sense.
    """

    status, code = 503, "service_unavailable"
    documented_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "seconds after which a retry makes sense"}

    def __init__(self, detail: str, *, retry_after: float = 1.0) -> None:
        super().__init__(detail, headers={"Retry-After": str(max(1, round(retry_after)))})


def title_of(status: int) -> str:
    """Give the name of a status as RFC 9110 has it; Python's own names of two changed with 3.13."""
    return _TITLES.get(status) or HTTPStatus(status).phrase


def problem_response(
    status: int,
    code: str,
    detail: str,
    *,
    errors: list[FieldProblem] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Make the response for an error of any kind."""
    problem = Problem(
        title=title_of(status),
        status=status,
        detail=detail,
        code=code,
        request_id=current_request_id(),
        errors=errors,
    )
    return JSONResponse(
        problem.model_dump(exclude_none=True),
        status_code=status,
        headers=dict(headers or {}),
        media_type=MEDIA_TYPE,
    )


def documented(*errors: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """Declare what a route may raise, for its `responses=`; several errors of one status share it."""
    found: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        meaning = (error.__doc__ or error.code).strip().splitlines()[0]
        entry = found.setdefault(error.status, documented_error(error.status))
        add_documented_error(entry, error.status, error.code, meaning, error.documented_headers)
    return found


def documented_error(status: int) -> dict[str, Any]:
    """Start the description of an error response, with no cause yet."""
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}
    return {"description": title_of(status), "content": {MEDIA_TYPE: content}}


def add_documented_error(
    entry: dict[str, Any], status: int, code: str, meaning: str, headers: Mapping[str, str] | None = None
) -> None:
    """Add a cause to an error response: an example that shows its `code`."""
    examples = entry["content"][MEDIA_TYPE]["examples"]
    value = Problem(title=title_of(status), status=status, detail=meaning, code=code, request_id=_SOME_REQUEST_ID)
    examples[code] = {"summary": meaning, "value": value.model_dump(exclude_none=True)}
    entry["description"] = " ".join(example["summary"] for example in examples.values())
    for name, description in (headers or {}).items():
        entry.setdefault("headers", {})[name] = {"description": description, "schema": {"type": "string"}}


def internal_error_response() -> Response:
    """Make the response for an error nobody foresaw; the log line with this request id has the rest."""
    return problem_response(
        500, "internal_error", "Something went wrong on our side; it was logged under this request id."
    )


def install_error_handlers(app: FastAPI) -> None:
    """Give every error of `app` the one shape."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101  (Starlette calls by type; this tells the type checker)
    return problem_response(error.status, error.code, error.detail, errors=error.errors, headers=error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return method_not_allowed(request.app.router.routes, request.scope)  # the framework names one route's only
    code = _CODES.get(error.status_code, "http_error")
    return problem_response(error.status_code, code, _detail(error), headers=dict(error.headers or {}))


def method_not_allowed(routes: Sequence[BaseRoute], scope: Scope) -> Response:
    """Make the response for a method that the path does not take, naming those it takes."""
    detail = f"{scope['method']} is not possible here; see the Allow header."
    status = HTTPStatus.METHOD_NOT_ALLOWED
    return problem_response(status, _CODES[status], detail, headers=allow_header(routes, scope))


def _detail(error: HTTPException) -> str:
    """Say more than the framework does, where it says little."""
    match error.status_code:
        case HTTPStatus.BAD_REQUEST:
            return _NOT_JSON
        case HTTPStatus.NOT_FOUND:
            return "There is nothing at this path."
        case _:
            return str(error.detail)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    problems = error.errors()
    if any(problem["type"] == "json_invalid" for problem in problems):
        return problem_response(400, "malformed_json", _NOT_JSON)
    if _is_not_json(request):
        return problem_response(415, "unsupported_media_type", "Send the body as application/json.")
    fields = field_problems(problems)
    detail = "; ".join(f"{field.field}: {field.message}" for field in fields[:3])
    return problem_response(422, "validation_error", detail, errors=fields)


def field_problems(problems: Sequence[Mapping[str, Any]]) -> list[FieldProblem]:
    """Say in our shape what a validation found, as far as a caller can take it in."""
    return [
        FieldProblem(field=_where(problem["loc"]), message=problem["msg"].removeprefix("Value error, "))
        for problem in problems[:_MAX_FIELDS]
    ]


def _is_not_json(request: Request) -> bool:
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    return has_body and media_type != "application/json" and not media_type.endswith("+json")


def _where(location: tuple[str | int, ...]) -> str:
    """Give `title` for `('body', 'title')`, but keep `query.limit` so the caller knows where to look."""
    parts = [str(part).encode(errors="replace").decode() for part in location]
    if len(parts) > 1 and parts[0] == "body":
        parts = parts[1:]
    return ".".join(parts)[:200]
