"""Every kind of breaking change is refused by name, in the direction it hurts; additive ones pass."""

import copy
from collections.abc import Callable
from typing import Final

import pytest
from pydantic import JsonValue

from contracts.alternatives import Schema
from contracts.compatibility import breaking_changes
from contracts.violations import BACKWARD, BOTH, FORWARD, Direction, Rule
from task_events.json_schema import envelope_schema

Mutation = Callable[[Schema], object]

STRING: Final[Schema] = {"type": "string"}
NULL: Final[Schema] = {"type": "null"}


def holder(schema: JsonValue, name: str) -> Schema:
    member = schema[name] if isinstance(schema, dict) else None
    assert isinstance(member, dict)
    return member


def definition(schema: Schema, name: str) -> Schema:
    return holder(holder(schema, "$defs"), name)


def task(schema: Schema) -> Schema:
    return definition(schema, "TaskSnapshot")


def field(schema: Schema, name: str) -> Schema:
    return holder(holder(task(schema), "properties"), name)


def put(name: str, value: Schema) -> Mutation:
    return lambda schema: holder(task(schema), "properties").update({name: value})


def required(schema: Schema) -> list[JsonValue]:
    names = schema["required"]
    assert isinstance(names, list)
    return names


def require(name: str) -> Mutation:
    return lambda schema: required(task(schema)).append(name)


def both(*mutations: Mutation) -> Mutation:
    def mutate(schema: Schema) -> None:
        for mutation in mutations:
            mutation(schema)

    return mutate


def remove(name: str) -> Mutation:
    def mutate(schema: Schema) -> None:
        del holder(task(schema), "properties")[name]
        required(task(schema)).remove(name)

    return mutate


def change(name: str, keyword: str, value: JsonValue) -> Mutation:
    return lambda schema: field(schema, name).update({keyword: value})


def drop(name: str, keyword: str) -> Mutation:
    return lambda schema: field(schema, name).pop(keyword)


def nothing(_: Schema) -> None:
    """Leave the contract as it is."""


TAGS: Final[Schema] = {"type": "array", "items": STRING, "default": []}
DUE: Final[Schema] = {"anyOf": [{"type": "string", "format": "date-time"}, NULL]}

BREAKING: Final[dict[str, tuple[Mutation, str, Rule, frozenset[Direction]]]] = {
    "removed field": (remove("title"), "data.task.title", Rule.FIELD_REMOVED, FORWARD),
    "removed attribute": (
        both(
            lambda schema: holder(schema, "properties").pop("partitionkey"),
            lambda schema: required(schema).remove("partitionkey"),
        ),
        "partitionkey",
        Rule.FIELD_REMOVED,
        FORWARD,
    ),
    "removed optional attribute": (
        lambda schema: holder(schema, "properties").pop("traceparent"),
        "traceparent",
        Rule.FIELD_REMOVED,
        FORWARD,
    ),
    "field not always there": (
        lambda schema: required(task(schema)).remove("title"),
        "data.task.title",
        Rule.FIELD_NOT_ALWAYS_THERE,
        FORWARD,
    ),
    "new required field": (
        both(put("labels", TAGS), require("labels")),
        "data.task.labels",
        Rule.FIELD_NEW_AND_REQUIRED,
        BACKWARD,
    ),
    "optional attribute made required": (
        lambda schema: required(schema).append("traceparent"),
        "traceparent",
        Rule.FIELD_MADE_REQUIRED,
        BACKWARD,
    ),
    "nullable now": (
        put("title", {"anyOf": [STRING, NULL]}),
        "data.task.title",
        Rule.TYPE_WIDENED,
        FORWARD,
    ),
    "number instead of integer": (change("version", "type", "number"), "data.task.version", Rule.TYPE_WIDENED, FORWARD),
    "no null any more": (put("description", STRING), "data.task.description", Rule.TYPE_NARROWED, BACKWARD),
    "text instead of number": (put("id", STRING), "data.task.id", Rule.TYPE_CHANGED, BOTH),
    "list instead of text": (put("title", TAGS), "data.task.title", Rule.TYPE_CHANGED, BOTH),
    "any JSON made text": (
        lambda schema: holder(definition(schema, "FieldChange"), "properties").update(old=STRING),
        "data.changes.*.old",
        Rule.TYPE_NARROWED,
        BACKWARD,
    ),
    "text made any JSON": (put("title", {}), "data.task.title", Rule.TYPE_WIDENED, FORWARD),
    "new event type": (
        lambda schema: definition(schema, "TaskEventType").update(
            enum=[*_values(definition(schema, "TaskEventType")), "task.archived"]
        ),
        "type",
        Rule.VALUES_ADDED,
        FORWARD,
    ),
    "priority added": (
        change("priority", "enum", ["urgent", "high", "medium", "low"]),
        "data.task.priority",
        Rule.VALUES_ADDED,
        FORWARD,
    ),
    "priority removed": (
        change("priority", "enum", ["high", "low"]),
        "data.task.priority",
        Rule.VALUES_REMOVED,
        BACKWARD,
    ),
    "priorities freed": (drop("priority", "enum"), "data.task.priority", Rule.VALUES_ADDED, FORWARD),
    "titles listed": (change("title", "enum", ["Buy milk"]), "data.task.title", Rule.VALUES_REMOVED, BACKWARD),
    "larger minimum": (change("version", "minimum", 2), "data.task.version", Rule.RANGE_NARROWED, BACKWARD),
    "smaller minimum": (change("version", "minimum", 0), "data.task.version", Rule.RANGE_WIDENED, FORWARD),
    "no minimum": (drop("version", "minimum"), "data.task.version", Rule.RANGE_WIDENED, FORWARD),
    "new maximum length": (change("title", "maxLength", 80), "data.task.title", Rule.RANGE_NARROWED, BACKWARD),
    "longer ids": (
        lambda schema: holder(holder(schema, "properties"), "id").update(maxLength=1000),
        "id",
        Rule.RANGE_WIDENED,
        FORWARD,
    ),
    "other format": (change("created_at", "format", "date"), "data.task.created_at", Rule.FORMAT_CHANGED, BOTH),
    "no format": (drop("created_at", "format"), "data.task.created_at", Rule.FORMAT_CHANGED, FORWARD),
    "new format": (change("owner_id", "format", "uuid"), "data.task.owner_id", Rule.FORMAT_CHANGED, BACKWARD),
    "other format of a nullable field": (
        put("due_at", {"anyOf": [{"type": "string", "format": "date"}, NULL]}),
        "data.task.due_at",
        Rule.FORMAT_CHANGED,
        BOTH,
    ),
    "other pattern": (
        lambda schema: holder(holder(schema, "properties"), "subject").update(pattern="^t-"),
        "subject",
        Rule.PATTERN_CHANGED,
        BOTH,
    ),
    "new pattern": (change("title", "pattern", "^[A-Z]"), "data.task.title", Rule.PATTERN_CHANGED, BACKWARD),
    "a keyword nobody thought of": (
        change("title", "contentEncoding", "base64"),
        "data.task.title",
        Rule.KEYWORD_CHANGED,
        BACKWARD,
    ),
    "unknown fields refused": (
        lambda schema: task(schema).update(additionalProperties=False),
        "data.task",
        Rule.OBJECT_CLOSED,
        BACKWARD,
    ),
    "other values in a map": (
        lambda schema: holder(holder(definition(schema, "TaskEventData"), "properties"), "changes").update(
            additionalProperties=STRING
        ),
        "data.changes.*",
        Rule.TYPE_CHANGED,
        BOTH,
    ),
    "a constraint beside a reference": (
        lambda schema: holder(holder(schema, "properties"), "type").update(pattern="^task"),
        "type",
        Rule.PATTERN_CHANGED,
        BACKWARD,
    ),
    "a reference into nowhere": (
        put("title", {"$ref": "#/$defs/Nowhere"}),
        "data.task.title",
        Rule.KEYWORD_CHANGED,
        BOTH,
    ),
}

ADDITIVE: Final[dict[str, Mutation]] = {
    "nothing": nothing,
    "new optional field": put("labels", TAGS),
    "new optional object": put(
        "repetition", {"type": "object", "properties": {"every": STRING}, "required": ["every"]}
    ),
    "new optional attribute": lambda schema: holder(schema, "properties").update(corrid=STRING),
    "new definition": lambda schema: holder(schema, "$defs").update(Tag=STRING),
    "other words": lambda schema: (task(schema).update(description="A task"), field(schema, "title").update(title="T")),
    "other id": lambda schema: schema.update({"$id": "urn:taskwire:events:task-envelope:1.1"}),
    "fields in another order": lambda schema: required(task(schema)).reverse(),
    "values in another order": change("priority", "enum", ["low", "medium", "high"]),
    "nullable said another way": put("description", {"type": ["null", "string"]}),
    "no reference": lambda schema: holder(definition(schema, "TaskEventData"), "properties").update(
        task=copy.deepcopy(task(schema))
    ),
    "one value said another way": lambda schema: holder(schema, "properties").update(topic={"enum": ["tasks"]}),
}


def _values(schema: Schema) -> list[JsonValue]:
    values = schema["enum"]
    assert isinstance(values, list)
    return values


def mutated(mutation: Mutation) -> Schema:
    schema = envelope_schema()
    mutation(schema)
    return schema


@pytest.mark.parametrize("name", BREAKING)
def test_a_breaking_change_is_refused_with_field_and_rule(name: str) -> None:
    mutation, path, rule, hurts = BREAKING[name]
    (violation,) = breaking_changes(envelope_schema(), mutated(mutation))
    assert (violation.field, violation.rule, violation.hurts) == (path, rule, hurts)
    assert str(violation).startswith(f"{path}: ")
    assert rule.value in str(violation)


@pytest.mark.parametrize("name", [name for name, (*_, hurts) in BREAKING.items() if hurts != BOTH])
def test_the_way_back_hurts_the_others(name: str) -> None:
    mutation, _, _, hurts = BREAKING[name]
    back = {direction for one in breaking_changes(mutated(mutation), envelope_schema()) for direction in one.hurts}
    # What was removed, coming back optional, hurts nobody.
    assert back in ({*(BOTH - hurts)}, set())


@pytest.mark.parametrize("name", ADDITIVE)
def test_what_only_adds_passes(name: str) -> None:
    assert breaking_changes(envelope_schema(), mutated(ADDITIVE[name])) == []


def test_every_rule_about_schemas_has_its_breaking_change() -> None:
    shown = {rule for _, _, rule, _ in BREAKING.values()}
    assert set(Rule) - shown == {Rule.DEFAULT_CHANGED, Rule.OBJECT_OPENED, Rule.TOPIC_CHANGED}


def test_what_absence_means_does_not_change() -> None:
    released, current = mutated(put("labels", TAGS)), mutated(put("labels", TAGS | {"default": ["inbox"]}))
    (violation,) = breaking_changes(released, current)
    assert (violation.field, violation.rule) == ("data.task.labels", Rule.DEFAULT_CHANGED)
    assert 'absent meant [], now ["inbox"]' in str(violation)


def test_a_closed_object_is_not_opened() -> None:
    closed = mutated(lambda schema: task(schema).update(additionalProperties=False))
    (violation,) = breaking_changes(closed, envelope_schema())
    assert (violation.field, violation.rule) == ("data.task", Rule.OBJECT_OPENED)


def test_items_of_lists_are_compared() -> None:
    released, current = mutated(put("labels", TAGS)), mutated(put("labels", TAGS | {"items": {"type": "integer"}}))
    (violation,) = breaking_changes(released, current)
    assert (violation.field, violation.rule) == ("data.task.labels[]", Rule.TYPE_CHANGED)


def test_alternatives_of_one_type_are_told_apart_or_refused() -> None:
    two: list[JsonValue] = [{"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^b"}]
    released, current = mutated(put("labels", {"anyOf": two})), mutated(put("labels", {"anyOf": [two[0], STRING]}))
    assert breaking_changes(released, released) == []
    (violation,) = breaking_changes(released, current)
    assert (violation.field, violation.rule) == ("data.task.labels", Rule.TYPE_CHANGED)


def test_what_alternatives_of_one_type_refer_to_is_compared() -> None:
    two: list[JsonValue] = [
        {"type": "object", "properties": {name: {"$ref": "#/$defs/Actor"}}, "required": [name]}
        for name in ("by", "for")
    ]
    released = mutated(put("tags", {"anyOf": two}))
    current = copy.deepcopy(released)
    holder(holder(definition(current, "Actor"), "properties"), "id").update(type="integer")
    found = {violation.field for violation in breaking_changes(released, current)}
    assert {"data.task.tags.by.id", "data.task.tags.for.id"} <= found


def test_a_task_in_a_task_ends() -> None:
    nested = mutated(put("parent", {"anyOf": [{"$ref": "#/$defs/TaskSnapshot"}, NULL]}))
    assert breaking_changes(nested, nested) == []


def test_all_that_breaks_is_told_at_once() -> None:
    current = mutated(both(remove("title"), change("version", "minimum", 2), put("due_at", STRING)))
    assert {violation.field for violation in breaking_changes(envelope_schema(), current)} == {
        "data.task.title",
        "data.task.version",
        "data.task.due_at",
    }
