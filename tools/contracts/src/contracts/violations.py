"""What a change of the contract can break, and for whom."""

from dataclasses import dataclass
from enum import StrEnum

from typing_extensions import override


class Direction(StrEnum):
    """Who is hurt. The names are those of Avro and of Confluent's Schema Registry."""

    FORWARD = "forward"
    """Consumers built for the released contract, reading new events."""
    BACKWARD = "backward"
    """Consumers built for the new contract, reading released events: Kafka keeps them, dead letters come back."""


class Rule(StrEnum):
    """Each kind of breaking change."""

    FIELD_REMOVED = "field-removed"
    FIELD_NOT_ALWAYS_THERE = "required-field-made-optional"
    FIELD_NEW_AND_REQUIRED = "new-required-field"
    FIELD_MADE_REQUIRED = "optional-field-made-required"
    TYPE_WIDENED = "type-widened"
    TYPE_NARROWED = "type-narrowed"
    TYPE_CHANGED = "type-changed"
    VALUES_ADDED = "enum-value-added"
    VALUES_REMOVED = "enum-value-removed"
    RANGE_WIDENED = "range-widened"
    RANGE_NARROWED = "range-narrowed"
    FORMAT_CHANGED = "format-changed"
    PATTERN_CHANGED = "pattern-changed"
    KEYWORD_CHANGED = "keyword-changed"
    DEFAULT_CHANGED = "default-changed"
    OBJECT_CLOSED = "object-closed"
    OBJECT_OPENED = "object-opened"
    TOPIC_CHANGED = "topic-changed"


@dataclass(frozen=True)
class Violation:
    """One breaking change.

    Attributes:
        field: Where, as a path from the envelope: `data.task.title`; `[]` is an item, `*` any member of a map.
        rule: Which kind.
        detail: What was, what is.
        hurts: Who cannot read what.
    """

    field: str
    rule: Rule
    detail: str
    hurts: frozenset[Direction]

    @override
    def __str__(self) -> str:
        return f"{self.field}: {self.detail}  [{self.rule}, breaks {' and '.join(sorted(self.hurts))} compatibility]"


FORWARD = frozenset({Direction.FORWARD})
BACKWARD = frozenset({Direction.BACKWARD})
BOTH = FORWARD | BACKWARD
