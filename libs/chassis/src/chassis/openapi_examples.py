"""Examples of whole bodies, made of the examples that the fields of a schema have."""

from typing import Any, Final

from pydantic import JsonValue

_SOME_TIME: Final = "2026-11-21T03:14:44.196572Z"


class NoExampleError(Exception):
    """A field has no example; the message is its path."""


def example_of(document: dict[str, Any], schema: dict[str, Any], path: str = "") -> JsonValue:
    """Make an example of what a schema describes: its own where it has one, else of its parts.

    Raises:
        NoExampleError: There is a field to which nothing says what it may look like.
    """
    given = _given(schema)
    if given is not None:
        return given[0]
    whole = resolved(document, schema)
    if whole is not schema:
        return example_of(document, whole, path)
    alternatives: list[dict[str, Any]] = whole.get("anyOf") or whole.get("oneOf") or []
    if alternatives:
        shown = [one for one in alternatives if "examples" in resolved(document, one)]
        # Null rather than something made up: a due date that nobody set, a verdict that is not yet there.
        empty = [one for one in alternatives if one.get("type") == "null"]
        return example_of(document, (shown or empty or alternatives)[0], path)
    return _by_type(document, whole, path)


def _given(schema: dict[str, Any]) -> list[JsonValue] | None:
    """Give what a schema says of itself, best first."""
    for keyword in ("examples", "enum"):
        if isinstance(schema.get(keyword), list) and schema[keyword]:
            values: list[JsonValue] = schema[keyword]
            return values
    for keyword in ("example", "const", "default"):
        if schema.get(keyword) is not None:
            return [schema[keyword]]
    return None


def _by_type(document: dict[str, Any], schema: dict[str, Any], path: str) -> JsonValue:
    match schema.get("type"):
        case "object":
            properties: dict[str, dict[str, Any]] = schema.get("properties", {})
            return {name: example_of(document, part, f"{path}.{name}".lstrip(".")) for name, part in properties.items()}
        case "array":
            return [example_of(document, schema.get("items", {}), f"{path}[]")]
        case "boolean":
            return False
        case "null":
            return None
        case "string" if schema.get("format") == "date-time":
            return _SOME_TIME
        case _:
            raise NoExampleError(path or "the whole")


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Follow a `$ref` within the document."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    target: Any = document
    for part in reference.removeprefix("#/").split("/"):
        target = target[part]
    found: dict[str, Any] = target
    return found
