"""Whether a schema may follow a released one: every rule, in both directions.

The publisher writes only what its schema declares; readers ignore what they do not know. So the test of a change is

- FORWARD: is everything the new contract writes readable by a consumer of the released one;
- BACKWARD: is everything the released contract wrote readable by a consumer of the new one.

Events demand both, of every release of the same major (Confluent calls that FULL_TRANSITIVE). An answer of the HTTP
API must hold FORWARD, old clients read what the new service writes, and a request BACKWARD, the new service reads
what old clients write.

Own code because of what there is, tried on 24 small changes: jsoncompat 0.3 calls itself alpha, sees no change of
`format` or `pattern` and refuses schemas with an `$id`; jsonsubschema 0.0.8 sees no change of `format`. Both answer
with one bool, and "which field, which rule" is what a person needs.
"""

import json
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from contracts.alternatives import Alternatives, Schema, UnreadableSchemaError, alternatives, values_of
from contracts.violations import BACKWARD, BOTH, FORWARD, Direction, Rule, Violation

_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_ANNOTATIONS: Final = {"$schema", "$id", "$defs", "$comment", "title", "description", "examples", "deprecated"}
_FOLLOWED: Final = {
    "type",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "default",
}
_OWN_RULE: Final = {"format": Rule.FORMAT_CHANGED, "pattern": Rule.PATTERN_CHANGED}


@dataclass(frozen=True)
class Parties:
    """Whom a change hurts, in the words of a report.

    Attributes:
        readers: Who read what the new contract writes.
        written: What was written by the released contract.
    """

    readers: str
    written: str


EVENTS: Final = Parties(readers="consumers", written="released events")


def breaking_changes(released: Schema, current: Schema) -> list[Violation]:
    """Compare two envelope schemas; empty when the current one may follow the released one."""
    return schema_changes((released, released), (current, current), EVENTS, at="envelope")


def schema_changes(
    released: tuple[Schema, JsonValue], current: tuple[Schema, JsonValue], parties: Parties, *, at: str
) -> list[Violation]:
    """Compare two schemas.

    Args:
        released: The document that holds the released schema, for `$ref`, and the schema.
        current: The same of the current one.
        parties: For the words of the report.
        at: What the whole is called.
    """
    comparison = _Comparison(released[0], current[0], parties, at)
    comparison.compare("", released[1], current[1])
    return comparison.found


class _Comparison:
    """One walk through two schemas side by side."""

    def __init__(self, released: Schema, current: Schema, parties: Parties, whole: str) -> None:
        self._released, self._current, self._whole = released, current, whole
        self._readers, self._written = parties.readers, parties.written
        self._open: set[tuple[str, str]] = set()
        self.found: list[Violation] = []

    def compare(self, path: str, old: JsonValue, new: JsonValue) -> None:
        """Compare what may be at a path."""
        try:
            before, after = alternatives(self._released, old), alternatives(self._current, new)
        except UnreadableSchemaError as error:
            self._report(path, Rule.KEYWORD_CHANGED, f"{error} cannot be compared; teach contracts first", BOTH)
            return
        self._compare_types(path, before, after)
        for name in before.names:
            pair = before.of(name), after.of(name)
            match pair:
                case _, []:
                    pass
                case [one], [other]:
                    self._compare_constraints(path, one, other)
                case several, others if _canonical(several) != _canonical(others):
                    self._report(path, Rule.TYPE_CHANGED, f"the alternatives of type {name} changed", BOTH)
                case several, others:  # what they refer to may differ
                    for one, other in zip(several, others, strict=True):
                        self._compare_constraints(path, one, other)

    def _compare_types(self, path: str, before: Alternatives, after: Alternatives) -> None:
        added, removed = after.atoms - before.atoms, before.atoms - after.atoms
        detail = f"was {before.text}, is {after.text}"
        if added and removed:
            self._report(path, Rule.TYPE_CHANGED, detail, BOTH)
        elif added:
            self._report(path, Rule.TYPE_WIDENED, f"{detail}; {self._readers} do not expect that", FORWARD)
        elif removed:
            self._report(path, Rule.TYPE_NARROWED, f"{detail}; {self._written} have the other", BACKWARD)

    def _compare_constraints(self, path: str, old: Schema, new: Schema) -> None:
        self._compare_values(path, values_of(old), values_of(new))
        for bounds, sign in ((_LOWER, 1), (_UPPER, -1)):
            for keyword in bounds:
                self._compare_bound(path, keyword, sign, old, new)
        known = _ANNOTATIONS | _FOLLOWED | {*_LOWER, *_UPPER}
        for keyword in sorted((set(old) | set(new)) - known):
            self._compare_opaque(path, keyword, old, new)
        if "properties" in old or "properties" in new:
            self._compare_objects(path, old, new)
        self._compare_other_members(path, old, new)
        if "items" in old or "items" in new:
            self.compare(f"{path}[]", old.get("items", True), new.get("items", True))

    def _compare_values(self, path: str, old: list[JsonValue] | None, new: list[JsonValue] | None) -> None:
        if old is None and new is None:
            return
        added = "any other value" if new is None else _listed(new, old)
        removed = "any other value" if old is None else _listed(old, new)
        if added and old is not None:
            self._report(
                path, Rule.VALUES_ADDED, f"{added} may now be there; {self._readers} refuse or ignore it", FORWARD
            )
        if removed and new is not None:
            self._report(path, Rule.VALUES_REMOVED, f"{removed} is no longer known; {self._written} have it", BACKWARD)

    def _compare_bound(self, path: str, keyword: str, sign: int, old: Schema, new: Schema) -> None:
        before, after = _number(old.get(keyword)), _number(new.get(keyword))
        if before == after:
            return
        detail = f"{keyword} was {_or_none(before)}, is {_or_none(after)}"
        if before is None or (after is not None and sign * after > sign * before):
            self._report(path, Rule.RANGE_NARROWED, f"{detail}; {self._written} may lie outside", BACKWARD)
        else:
            self._report(path, Rule.RANGE_WIDENED, f"{detail}; {self._readers} may have no room for it", FORWARD)

    def _compare_opaque(self, path: str, keyword: str, old: Schema, new: Schema) -> None:
        """Compare what cannot be ordered, and keywords nobody has taught this check: any difference counts."""
        before, after = old.get(keyword), new.get(keyword)
        if before == after and (keyword in old) == (keyword in new):
            return
        hurts = BACKWARD if keyword not in old else FORWARD if keyword not in new else BOTH
        rule = _OWN_RULE.get(keyword, Rule.KEYWORD_CHANGED)
        self._report(path, rule, f"{keyword} was {_or_none(before)}, is {_or_none(after)}", hurts)

    def _compare_objects(self, path: str, old: Schema, new: Schema) -> None:
        """Compare fields, but not those of an object inside itself again: recursive schemas end."""
        pair = _canonical(old), _canonical(new)
        if pair in self._open:
            return
        self._open.add(pair)
        self._compare_fields(path, old, new)
        self._open.remove(pair)

    def _compare_fields(self, path: str, old: Schema, new: Schema) -> None:
        before, after = _members(old), _members(new)
        had, has = _required(old), _required(new)
        for name, field in before.items():
            where = f"{path}.{name}".lstrip(".")
            if name not in after:
                self._report_removal(where, refused=new.get("additionalProperties") is False)
                continue
            if name in had - has:
                detail = "the field was always there and now may be missing"
                self._report(where, Rule.FIELD_NOT_ALWAYS_THERE, detail, FORWARD)
            if name in has - had:
                detail = f"the field is required now; {self._written} may lack it"
                self._report(where, Rule.FIELD_MADE_REQUIRED, detail, BACKWARD)
            self._compare_defaults(where, field, after[name])
            self.compare(where, field, after[name])
        for name in sorted(has & (after.keys() - before.keys())):
            detail = f"a new field is required; {self._written} lack it (give it a default)"
            self._report(f"{path}.{name}".lstrip("."), Rule.FIELD_NEW_AND_REQUIRED, detail, BACKWARD)

    def _report_removal(self, path: str, *, refused: bool) -> None:
        hurts, more = (BOTH, f", {self._written} have it, and it is refused now") if refused else (FORWARD, "")
        self._report(path, Rule.FIELD_REMOVED, f"the field was removed; {self._readers} read it{more}", hurts)

    def _compare_defaults(self, path: str, old: JsonValue, new: JsonValue) -> None:
        before, after = (field.get("default") if isinstance(field, dict) else None for field in (old, new))
        if isinstance(old, dict) and "default" in old and before != after:
            detail = f"absent meant {json.dumps(before)}, now {json.dumps(after)}"
            self._report(path, Rule.DEFAULT_CHANGED, detail, BACKWARD)

    def _compare_other_members(self, path: str, old: Schema, new: Schema) -> None:
        """Compare what members an object may have besides its fields."""
        before, after = (schema.get("additionalProperties", True) for schema in (old, new))
        if before is False and after is False:
            return
        if after is False:
            detail = f"unknown fields are refused now; {self._written} may have some"
            self._report(path, Rule.OBJECT_CLOSED, detail, BACKWARD)
        elif before is False:
            self._report(path, Rule.OBJECT_OPENED, "there may be any field now", FORWARD)
        elif "additionalProperties" in old or "additionalProperties" in new:
            self.compare(f"{path}.*", before, after)

    def _report(self, path: str, rule: Rule, detail: str, hurts: AbstractSet[Direction]) -> None:
        self.found.append(Violation(path or self._whole, rule, detail, frozenset(hurts)))


def _members(schema: Schema) -> Schema:
    members = schema.get("properties")
    return members if isinstance(members, dict) else {}


def _required(schema: Schema) -> set[str]:
    required = schema.get("required")
    return {str(name) for name in required} if isinstance(required, list) else set()


def _listed(values: list[JsonValue], without: list[JsonValue] | None) -> str:
    known = {_canonical(value) for value in without or []}
    return ", ".join(text for text in map(_canonical, values) if text not in known)


def _number(value: JsonValue) -> float | None:
    return value if isinstance(value, int | float) else None


def _or_none(value: JsonValue) -> str:
    return "absent" if value is None else json.dumps(value)


def _canonical(value: JsonValue | list[Schema]) -> str:
    return json.dumps(value, sort_keys=True)
