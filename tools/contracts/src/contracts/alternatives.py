"""The types a JSON Schema allows, one by one: `anyOf`, type lists, nullable and untyped schemas made alike."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import JsonValue

Schema = dict[str, JsonValue]

_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
# What values a type has: a number is an integer or has a fraction, and no type at all means any.
_ATOMS = {
    "number": {"integer", "fraction"},
    "any": {"null", "boolean", "integer", "fraction", "string", "array", "object"},
}


class UnreadableSchemaError(Exception):
    """A schema says something this comparison cannot follow."""


@dataclass(frozen=True)
class Alternatives:
    """A schema as the list of its one-type schemas."""

    members: tuple[tuple[str, Schema], ...]

    @property
    def text(self) -> str:
        """The types, for people: `string or null`."""
        return " or ".join(dict.fromkeys(name for name, _ in self.members))

    @property
    def atoms(self) -> set[str]:
        """The types such that more atoms are more values."""
        return set().union(*(_ATOMS.get(name, {name}) for name, _ in self.members))

    def of(self, name: str) -> list[Schema]:
        """Give the schemas of one type."""
        return [schema for member, schema in self.members if member == name]

    @property
    def names(self) -> list[str]:
        """The types, each once."""
        return list(dict.fromkeys(name for name, _ in self.members))


def alternatives(root: Schema, schema: JsonValue) -> Alternatives:
    """Take a schema apart.

    Args:
        root: The whole schema, for `$ref` into `$defs`.
        schema: The part.

    Raises:
        UnreadableSchemaError: It uses `false`, a foreign reference or mixes `anyOf` with constraints beside it.
    """
    return Alternatives(tuple(_split(root, schema)))


def resolved(root: Schema, schema: JsonValue) -> Schema:
    """Follow `$ref`; what stands beside it counts too."""
    if schema is True:
        return {}
    if not isinstance(schema, dict):
        raise UnreadableSchemaError(f"the schema {json.dumps(schema)}")
    reference = schema.get("$ref")
    if reference is None:
        return schema
    target: JsonValue = root
    for part in str(reference).removeprefix("#/").split("/"):
        target = target.get(part) if isinstance(target, dict) else None
    if target is None:
        raise UnreadableSchemaError(f"the reference {reference}")
    beside: Schema = {key: value for key, value in schema.items() if key != "$ref"}
    return resolved(root, target) | beside


def _split(root: Schema, schema: JsonValue) -> Iterator[tuple[str, Schema]]:
    whole = resolved(root, schema)
    if "allOf" in whole:
        raise UnreadableSchemaError("allOf")
    for union in ("anyOf", "oneOf"):
        members = whole.get(union)
        if isinstance(members, list):
            beside: Schema = {key: value for key, value in whole.items() if key != union}
            for member in members:
                yield from _split(root, beside | resolved(root, member))
            return
    declared = whole.get("type")
    types = declared if isinstance(declared, list) else [declared] if declared else sorted(_types_of_values(whole))
    for name in types:
        yield str(name), whole


def _types_of_values(schema: Schema) -> set[str]:
    """Say which types a schema without `type` has, from its values."""
    values = values_of(schema)
    return {"any"} if values is None else {_JSON_TYPES.get(type(value), "null") for value in values}


def values_of(schema: Schema) -> list[JsonValue] | None:
    """Give the only values a schema allows, or None when it names none."""
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else None
