"""Whether a contract may follow a released one: every rule, in both directions.

The publisher writes only what its schema declares; readers ignore what they do not know. So the test of a change is

- FORWARD: is everything the new contract writes readable by a consumer of the released one;
- BACKWARD: is everything the released contract wrote readable by a consumer of the new one.

Both are demanded, of every release of the same major (Confluent calls that FULL_TRANSITIVE). Own code because of
what there is, tried on 24 small changes: jsoncompat 0.3 calls itself alpha, sees no change of `format` or `pattern`
and refuses schemas with an `$id`; jsonsubschema 0.0.8 sees no change of `format`. Both answer with one bool, and
"which field, which rule" is what a person needs.
"""

import json
from collections.abc import Set as AbstractSet
from typing import Final

from pydantic import JsonValue

from event_contract.alternatives import Alternatives, Schema, UnreadableSchemaError, alternatives, values_of
from event_contract.violations import BACKWARD, BOTH, FORWARD, Direction, Rule, Violation

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


def breaking_changes(released: Schema, current: Schema) -> list[Violation]:
    """Compare two envelope schemas; empty when the current one may follow the released one."""
    comparison = _Comparison(released, current)
    comparison.compare("", released, current)
    return comparison.found


class _Comparison:
    """One walk through two schemas side by side."""

    def __init__(self, released: Schema, current: Schema) -> None:
        self._released, self._current = released, current
        self._open: set[tuple[str, str]] = set()
        self.found: list[Violation] = []

    def compare(self, path: str, old: JsonValue, new: JsonValue) -> None:
        """Compare what may be at a path."""
        try:
            before, after = alternatives(self._released, old), alternatives(self._current, new)
        except UnreadableSchemaError as error:
            self._report(path, Rule.KEYWORD_CHANGED, f"{error} cannot be compared; teach event_contract first", BOTH)
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

    def _compare_types(self, path: str, before: Alternatives, after: Alternatives) -> None:
        added, removed = after.atoms - before.atoms, before.atoms - after.atoms
        detail = f"was {before.text}, is {after.text}"
        if added and removed:
            self._report(path, Rule.TYPE_CHANGED, detail, BOTH)
        elif added:
            self._report(path, Rule.TYPE_WIDENED, f"{detail}; consumers do not expect that", FORWARD)
        elif removed:
            self._report(path, Rule.TYPE_NARROWED, f"{detail}; released events have the other", BACKWARD)

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
            self._report(path, Rule.VALUES_ADDED, f"{added} may now be there; consumers refuse or ignore it", FORWARD)
        if removed and new is not None:
            self._report(path, Rule.VALUES_REMOVED, f"{removed} is no longer known; released events have it", BACKWARD)

    def _compare_bound(self, path: str, keyword: str, sign: int, old: Schema, new: Schema) -> None:
        before, after = _number(old.get(keyword)), _number(new.get(keyword))
        if before == after:
            return
        detail = f"{keyword} was {_or_none(before)}, is {_or_none(after)}"
        if before is None or (after is not None and sign * after > sign * before):
            self._report(path, Rule.RANGE_NARROWED, f"{detail}; released events may lie outside", BACKWARD)
        else:
            self._report(path, Rule.RANGE_WIDENED, f"{detail}; consumers may have no room for it", FORWARD)

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
                self._report(where, Rule.FIELD_REMOVED, "the field was removed; consumers read it", FORWARD)
                continue
            if name in had - has:
                detail = "the field was always there and now may be missing"
                self._report(where, Rule.FIELD_NOT_ALWAYS_THERE, detail, FORWARD)
            if name in has - had:
                detail = "the field is required now; released events may lack it"
                self._report(where, Rule.FIELD_MADE_REQUIRED, detail, BACKWARD)
            self._compare_defaults(where, field, after[name])
            self.compare(where, field, after[name])
        for name in sorted(has & (after.keys() - before.keys())):
            detail = "a new field is required; released events lack it (give it a default)"
            self._report(f"{path}.{name}".lstrip("."), Rule.FIELD_NEW_AND_REQUIRED, detail, BACKWARD)

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
            detail = "unknown fields are refused now; consumers must ignore what they do not know"
            self._report(path, Rule.OBJECT_CLOSED, detail, BACKWARD)
        elif before is False:
            self._report(path, Rule.OBJECT_OPENED, "there may be any field now", FORWARD)
        elif "additionalProperties" in old or "additionalProperties" in new:
            self.compare(f"{path}.*", before, after)

    def _report(self, path: str, rule: Rule, detail: str, hurts: AbstractSet[Direction]) -> None:
        self.found.append(Violation(path or "envelope", rule, detail, frozenset(hurts)))


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
