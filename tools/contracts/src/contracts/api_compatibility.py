"""Whether an HTTP API may follow a released one: what a client was told must stay so.

The rules are those of oasdiff, the field's tool, as far as they say that a client breaks. It is a Go program that no
Python package brings. Own code because of what there is for Python, tried on eight changes: api-schema-diff 1.0.4 sees
no change of enums, lengths, nullability and security, and refuses a new field in an answer, which breaks nobody.

A schema is compared by the same code as that of events: a request is read by the new service and an answer by old
clients, so each takes the violations of its own direction. Parameters and headers are compared as fields of an object.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pydantic import JsonValue
from typing_extensions import override

from contracts.alternatives import Schema, resolved
from contracts.compatibility import Parties, schema_changes
from contracts.violations import Direction, Rule

_METHODS: Final = ("get", "put", "post", "patch", "delete")
_PARTIES: Final = Parties(readers="clients", written="requests of today's clients")
_WORDS: Final = {"description", "summary", "title", "example", "examples", "tags", "$comment"}
_NAMED: Final = {"properties", "$defs", "schemas", "paths", "responses", "headers", "securitySchemes", "content"}
_CODES: Final = "x-error-codes"


class ApiRule(StrEnum):
    """Each kind of breaking change that is not one of a schema (`contracts.violations.Rule`)."""

    OPERATION_REMOVED = "operation-removed"
    OPERATION_ID_CHANGED = "operation-id-changed"
    SECURITY_ADDED = "security-added"
    BODY_REQUIRED = "body-required"
    BODY_REMOVED = "body-removed"
    MEDIA_TYPE_REMOVED = "media-type-removed"
    RESPONSE_REMOVED = "response-removed"
    ERROR_CODE_REMOVED = "error-code-removed"


@dataclass(frozen=True)
class ApiViolation:
    """One breaking change.

    Attributes:
        operation: `GET /api/v1/tasks`.
        part: Of the operation: `request body`, `query parameters`, `response 200`; empty for all of it.
        field: Within the part, as a path.
        rule: Which kind.
        detail: What was, what is.
    """

    operation: str
    part: str
    field: str
    rule: Rule | ApiRule
    detail: str

    @override
    def __str__(self) -> str:
        where = ", ".join(filter(None, (self.operation, self.part, self.field)))
        return f"{where}: {self.detail}  [{self.rule}]"


def promised(document: dict[str, Any]) -> Schema:
    """Leave out of a document what may change: words, examples, and what answers that are shared are called.

    The codes of errors are kept.
    """
    kept = {name: _without_words(document[name], named=name == "paths") for name in ("info", "paths", "components")}
    kept["components"].pop("responses", None)
    for path, item in document["paths"].items():
        for method in item.keys() & {*_METHODS}:
            for status, response in item[method]["responses"].items():
                answer = resolved(document, response)
                kept["paths"][path][method]["responses"][status] = _without_words(answer) | {_CODES: _codes(answer)}
    return {"openapi": document["openapi"], **kept}


def _without_words(node: Any, *, named: bool = False) -> Any:  # noqa: ANN401
    """Copy a part of a document; in one that is `named`, keys are names of somebody's and never words."""
    if isinstance(node, list):
        return [_without_words(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _without_words(value, named=not named and key in _NAMED)
        for key, value in node.items()
        if named or key not in _WORDS
    }


def _codes(response: dict[str, Any]) -> list[str]:
    return sorted(response.get("content", {}).get("application/problem+json", {}).get("examples", {}))


def breaks(current: Schema, released: Schema) -> Iterator[ApiViolation]:
    """Say what in an API breaks clients of a released one; both as `promised` gives them."""
    after = dict(_operations(current))
    for name, before in _operations(released):
        if name in after:
            yield from _Operation(name, released, current, before, after[name]).breaks()
        else:
            yield ApiViolation(name, "", "", ApiRule.OPERATION_REMOVED, "the operation was removed")


def _operations(api: Schema) -> Iterator[tuple[str, Schema]]:
    for path, item in _part(api, "paths").items():
        for method in _METHODS:
            operation = item.get(method) if isinstance(item, dict) else None
            if isinstance(operation, dict):
                yield f"{method.upper()} {path}", operation


@dataclass(frozen=True)
class _Operation:
    """One operation, before and after."""

    name: str
    released: Schema
    current: Schema
    before: Schema
    after: Schema

    def breaks(self) -> Iterator[ApiViolation]:
        had, has = self.before.get("operationId"), self.after.get("operationId")
        if had != has:
            detail = f"was {had}, is {has}; generated clients call it by that name"
            yield self._told("", ApiRule.OPERATION_ID_CHANGED, detail)
        yield from self._security()
        yield from self._parameters()
        yield from self._request_body()
        yield from self._responses()

    def _told(self, part: str, rule: ApiRule, detail: str) -> ApiViolation:
        return ApiViolation(self.name, part, "", rule, detail)

    def _security(self) -> Iterator[ApiViolation]:
        wanted = _alternatives(self.current, self.after)
        for enough in _alternatives(self.released, self.before):
            if not any(alternative <= enough for alternative in wanted):
                had = " and ".join(sorted(name for name, _ in enough)) or "no credential"
                yield self._told("", ApiRule.SECURITY_ADDED, f"{had} was enough, and is not any more")

    def _parameters(self) -> Iterator[ApiViolation]:
        for place in ("path", "query", "header", "cookie"):
            before = _parameters(self.released, self.before, place)
            after = _parameters(self.current, self.after, place)
            yield from self._schemas(f"{place} parameters", before, after, Direction.BACKWARD)

    def _request_body(self) -> Iterator[ApiViolation]:
        before, after = _part(self.before, "requestBody"), _part(self.after, "requestBody")
        if before and not after:
            yield self._told("request body", ApiRule.BODY_REMOVED, "there is none any more; clients send one")
        elif after.get("required") and not before.get("required"):
            yield self._told("request body", ApiRule.BODY_REQUIRED, "it must be sent now; clients do not")
        if before and after:
            yield from self._media_types("request body", before, after, Direction.BACKWARD)

    def _responses(self) -> Iterator[ApiViolation]:
        before, after = _part(self.before, "responses"), _part(self.after, "responses")
        still_there = {code for response in after.values() for code in _listed(response)}
        for status, response in before.items():
            part, now = f"response {status}", _part(after, status)
            for code in _listed(response):
                if code not in _listed(now):
                    moved = "has another status now" if code in still_there else "is gone"
                    detail = f'code "{code}" {moved}; programs look for it'
                    yield self._told(part, ApiRule.ERROR_CODE_REMOVED, detail)
            if status not in after:
                if status < "4":
                    yield self._told(part, ApiRule.RESPONSE_REMOVED, "clients rely on this status")
                continue
            old = _part(before, status)
            yield from self._media_types(part, old, now, Direction.FORWARD)
            headers = _headers(self.released, old), _headers(self.current, now)
            yield from self._schemas(f"{part} headers", *headers, Direction.FORWARD)

    def _media_types(self, part: str, before: Schema, after: Schema, direction: Direction) -> Iterator[ApiViolation]:
        now = _part(after, "content")
        for media_type, content in _part(before, "content").items():
            other = now.get(media_type)
            if isinstance(content, dict) and isinstance(other, dict):
                yield from self._schemas(part, content.get("schema", {}), other.get("schema", {}), direction)
            else:
                yield self._told(part, ApiRule.MEDIA_TYPE_REMOVED, f"{media_type} is not possible any more")

    def _schemas(self, part: str, old: JsonValue, new: JsonValue, direction: Direction) -> Iterator[ApiViolation]:
        for found in schema_changes((self.released, old), (self.current, new), _PARTIES, at="the whole"):
            if direction in found.hurts:
                yield ApiViolation(self.name, part, found.field, found.rule, found.detail)


def _alternatives(api: Schema, operation: Schema) -> list[set[tuple[str, str]]]:
    """Give each set of credentials that is enough: scheme and scope, with what the scheme is."""
    schemes = _part(_part(api, "components"), "securitySchemes")
    found: list[set[tuple[str, str]]] = []
    alternatives = operation.get("security")
    for alternative in alternatives if isinstance(alternatives, list) else []:
        needed = alternative if isinstance(alternative, dict) else {}
        kinds = {(name, f"{_sorted_text(schemes.get(name))}") for name in needed}
        scopes = {(f"{name} {scope}", "") for name, listed in needed.items() for scope in _strings(listed)}
        found.append(kinds | scopes)
    return found or [set()]


def _sorted_text(scheme: JsonValue) -> str:
    return str(sorted(scheme.items())) if isinstance(scheme, dict) else ""


def _parameters(api: Schema, operation: Schema, place: str) -> Schema:
    """Give the parameters of one place as an object that takes no others."""
    listed = operation.get("parameters")
    found = [resolved(api, parameter) for parameter in listed] if isinstance(listed, list) else []
    return _as_object({str(one["name"]): one for one in found if one.get("in") == place}) | {
        "additionalProperties": False
    }


def _headers(api: Schema, response: Schema) -> Schema:
    """Give the headers of an answer as an object."""
    return _as_object({name: resolved(api, header) for name, header in _part(response, "headers").items()})


def _as_object(described: dict[str, Schema]) -> Schema:
    properties: Schema = {name: one.get("schema", {}) for name, one in described.items()}
    required: list[JsonValue] = [name for name, one in described.items() if one.get("required")]
    return {"type": "object", "properties": properties, "required": required}


def _listed(response: JsonValue) -> list[str]:
    return _strings(response.get(_CODES)) if isinstance(response, dict) else []


def _strings(values: JsonValue) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list) else []


def _part(holder: Schema, name: str) -> Schema:
    part = holder.get(name)
    return part if isinstance(part, dict) else {}
