"""The OpenAPI document of a service: what FastAPI finds in the routes, and what is the same for every operation.

A route says what is its own: summary, description, the errors it raises (`chassis.errors.documented`). The rest is
added here, so that no route can forget it: the errors that come from authentication, parsing, limits and outages,
headers, security, and examples of bodies, made of the examples of their fields.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import JsonValue
from typing_extensions import override

from chassis.database import DatabaseUnavailableError
from chassis.errors import (
    MEDIA_TYPE,
    ApiError,
    FieldProblem,
    Problem,
    UnauthenticatedError,
    UnavailableError,
    add_documented_error,
    documented_error,
)
from chassis.identity import Guard, operations_of
from chassis.openapi_examples import NoExampleError, example_of, resolved
from chassis.openapi_sharing import share_errors
from chassis.paths import API_PREFIX, SIDECAR_PREFIXES
from chassis.rate_limits.answers import HEADERS as RATE_LIMIT_HEADERS
from chassis.rate_limits.answers import RateLimitedError
from chassis.request_heads import HEADERS_TOO_LARGE, URL_TOO_LONG

Json = dict[str, Any]

_METHODS: Final = {"get", "put", "post", "patch", "delete"}
_REFERENCE: Final = "#/components/schemas/{model}"
_GENERIC: Final = re.compile(r"(?P<name>\w+)\[(?P<of>\w+)\]")
_OF_BODIES: Final = (
    (400, "malformed_json", "The body is not valid JSON."),
    (408, "upload_stalled", "The body stopped arriving."),
    (413, "body_too_large", "The body is larger than the service takes."),
    (415, "unsupported_media_type", "Send the body as application/json."),
)
_INVALID: Final = (422, "validation_error", "The request is well formed and its content is not acceptable.")
_INTERNAL: Final = (500, "internal_error", "Something went wrong on our side; it was logged under this request id.")
_IDS: Final = {
    "X-Request-ID": "of this request: the one that was sent, if well formed, else a new one",
    "X-Correlation-ID": "of the story the request belongs to; in its events, too",
}
# How a value that does not fit is refused, in pydantic's words.
_REFUSALS: Final = {
    "integer": "Input should be a valid integer, unable to parse string as an integer",
    "boolean": "Input should be a valid boolean, unable to interpret input",
}


class DescribedService(FastAPI):
    """An application whose OpenAPI document leaves nothing to guess."""

    @override
    def openapi(self) -> Json:
        """Make the document, once."""
        if self.openapi_schema is None:
            self._hide_the_sidecars_routes()
            self.openapi_schema = completed(
                super().openapi(), self._guards(), getattr(self.state, "refusal_of_erased", None)
            )
        return self.openapi_schema

    def _hide_the_sidecars_routes(self) -> None:
        """Keep what only daprd may call out of the document; Dapr's extension declares it like an API."""
        for route in self.routes:
            if isinstance(route, APIRoute) and route.path.startswith(SIDECAR_PREFIXES):
                route.include_in_schema = False

    def _guards(self) -> dict[str, Sequence[Guard]]:
        """Give the guards of every operation by its id."""
        return {operation.operation_id: operation.guards for operation in operations_of(self.routes)}


def completed(
    generated: Json, guards: Mapping[str, Sequence[Guard]], refusal_of_erased: type[ApiError] | None = None
) -> Json:
    """Give FastAPI's document with everything that is the same for every operation.

    Args:
        generated: What FastAPI made.
        guards: Those of every operation that has some, by operation id.
        refusal_of_erased: What the service answers to those whose account is erased, where it does not let them pass.
    """
    document: Json = _with_names_for_generics(copy.deepcopy(generated))  # a copy: routes share what they declare
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)  # FastAPI's shape of a 422, which is not ours
    problem = Problem.model_json_schema(mode="serialization", ref_template=_REFERENCE)
    schemas |= {**problem.pop("$defs", {}), "Problem": problem}
    components["schemas"] = dict(sorted(schemas.items()))
    components["headers"] = {
        name: {"description": meaning, "required": name in _IDS, "schema": {"type": "string"}}
        for name, meaning in (_IDS | RATE_LIMIT_HEADERS).items()
    }
    for path, _, operation in operations(document):
        operation.setdefault("security", [])
        its_guards = guards.get(operation.get("operationId", ""), ())
        _say_who_may(operation, its_guards)
        if refusal_of_erased is not None and any(not guard.also_erased for guard in its_guards):
            _add_class(operation["responses"], refusal_of_erased)
        _describe_errors(document, path, operation)
        _show_bodies(document, operation)
    share_errors(document)
    return document


def _with_names_for_generics(document: Json) -> Json:
    """Call `Page[TaskOut]` not `Page_TaskOut_` but `TaskOutPage`: generated clients show these names to people."""
    schemas: Json = document.get("components", {}).get("schemas", {})
    renamed = {}
    for name, schema in list(schemas.items()):
        generic = _GENERIC.fullmatch(schema.get("title", ""))
        if generic:
            schema["title"] = generic["of"] + generic["name"]
            schemas[schema["title"]] = schemas.pop(name)
            renamed[_REFERENCE.format(model=name)] = _REFERENCE.format(model=schema["title"])
    _rename(document, renamed)
    return document


def _rename(node: JsonValue, renamed: dict[str, str]) -> None:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            node["$ref"] = renamed.get(reference, reference)
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _rename(child, renamed)


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Give path, method and description of every operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in _METHODS:
                yield path, method.upper(), operation


def _describe_errors(document: Json, path: str, operation: Json) -> None:
    responses = operation["responses"]
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]  # FastAPI's own, see above
    if operation["security"]:
        _add_class(responses, UnauthenticatedError)
    if "requestBody" in operation:
        for cause in _OF_BODIES:
            _add(responses, *cause)
    if "requestBody" in operation or operation.get("parameters"):
        _add(responses, *_INVALID)
        _say_which_field(document, operation, responses["422"]["content"][MEDIA_TYPE]["examples"]["validation_error"])
    if path.startswith(API_PREFIX):
        _add_class(responses, DatabaseUnavailableError)
        _add_class(responses, UnavailableError)
        _add_class(responses, RateLimitedError)
    _add(responses, *URL_TOO_LONG)
    _add(responses, *HEADERS_TOO_LARGE)
    _add(responses, *_INTERNAL)
    operation["responses"] = dict(sorted(responses.items()))
    common = _IDS | (RATE_LIMIT_HEADERS if path.startswith(API_PREFIX) else {})
    for response in responses.values():
        headers = response.setdefault("headers", {})
        headers |= {name: {"$ref": f"#/components/headers/{name}"} for name in common}


def _say_who_may(operation: Json, guards: Sequence[Guard]) -> None:
    """Name the permission that an operation needs, for people and for programs.

    Not in its security requirement, where OpenAPI 3.1 has a place for it: there it would be something new to ask of
    clients, who have that permission since they can sign in.
    """
    for guard in guards:
        operation["x-permission"] = guard.permission.value
        operation["description"] = f"{operation.get('description', '').rstrip()}\n\nNeeds `{guard.permission}`."
        _add_class(operation["responses"], guard.refusal)


def _add_class(responses: Json, error: type[ApiError]) -> None:
    meaning = (error.__doc__ or error.code).strip().splitlines()[0]
    _add(responses, error.status, error.code, meaning, error.documented_headers)


def _add(responses: Json, status: int, code: str, meaning: str, *more: Any) -> None:  # noqa: ANN401
    entry = responses.setdefault(str(status), documented_error(status))
    if code not in entry["content"][MEDIA_TYPE]["examples"]:
        add_documented_error(entry, status, code, meaning, *more)


def _say_which_field(document: Json, operation: Json, example: Json) -> None:
    problem = FieldProblem(**_a_refused_field(document, operation))
    example["value"] |= {"detail": f"{problem.field}: {problem.message}", "errors": [problem.model_dump()]}


def _a_refused_field(document: Json, operation: Json) -> dict[str, str]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body is not None:
        schema = resolved(document, body)
        required = schema.get("required") or []
        if isinstance(required, list) and required:
            return {"field": str(required[0]), "message": "Field required"}
        return {"field": "colour", "message": "Extra inputs are not permitted"}
    for parameter in sorted(operation["parameters"], key=lambda one: str(one["in"]), reverse=True):
        message = _REFUSALS.get(str(parameter["schema"].get("type")))
        if message is not None:
            return {"field": f"{parameter['in']}.{parameter['name']}", "message": message}
    parameter = operation["parameters"][0]
    return {"field": f"{parameter['in']}.{parameter['name']}", "message": "String should have at most 200 characters"}


def _show_bodies(document: Json, operation: Json) -> None:
    """Give every body an example that has none; where a field's is missing there is none, and a test says so."""
    for _, content in bodies(operation):
        if "example" not in content and "examples" not in content:
            try:
                content["example"] = example_of(document, content.get("schema", {}))
            except NoExampleError:
                continue


def bodies(operation: Json) -> Iterator[tuple[str, Json]]:
    """Give every body of an operation, the request's and those of its answers, with a name for people."""
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"request body {media_type}", content
    for status, response in operation["responses"].items():
        for media_type, content in response.get("content", {}).items():
            yield f"response {status} {media_type}", content
