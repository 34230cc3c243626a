"""Reads what the sidecar delivers from a dead-letter topic, and what of an unreadable message can be read."""

import base64
import json
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from chassis.dead_letters.reasons import storable
from chassis.dead_letters.repository import Origin

_MAX_NAME_CHARS: Final = 200
_UNKNOWN: Final = -1
_MAX_PARTITION: Final = 2**31 - 1
_MAX_OFFSET: Final = 2**63 - 1


def original_body(delivery: bytes) -> bytes:
    """Unwrap the bytes of the original message from what daprd makes of a raw payload.

    A delivery of any other form is given as it is: whatever arrives here has no other place to go.
    """
    try:
        return base64.b64decode(json.loads(delivery)["data_base64"], validate=True)
    except (ValueError, TypeError, KeyError, RecursionError):
        return delivery


def origin_of(headers: Mapping[str, str], *, topic: str) -> Origin:
    """Tell which record a dead letter was.

    daprd puts a record's metadata into the headers of what it sends on, and headers win over the metadata of
    the dead letter itself: `__topic`, `__partition` and `__offset` are those of the original (daprd 1.18.1).

    Args:
        headers: Of the delivery.
        topic: Named when the headers name none.
    """
    return Origin(
        topic=storable(headers.get("__topic") or topic, _MAX_NAME_CHARS),
        partition=_number(headers.get("__partition"), _MAX_PARTITION),
        offset=_number(headers.get("__offset"), _MAX_OFFSET),
    )


def attributes_of(body: bytes) -> dict[str, str | None]:
    """Read `event_id`, `event_type` and `subject` of a CloudEvent as far as they can be read."""
    event = as_json(body)
    members: Mapping[str, JsonValue] = event if isinstance(event, dict) else {}
    wanted = {"event_id": "id", "event_type": "type", "subject": "subject"}
    return {name: _text(members.get(member)) for name, member in wanted.items()}


def as_json(body: bytes) -> JsonValue | None:
    """Give a message as JSON that can be sent on, or None when it is none (RFC 8259: UTF-8, no NaN)."""
    try:
        value: JsonValue = json.loads(body.decode(), parse_constant=_refuse)
        # What Python reads and cannot write: lone surrogates, infinities made by 1e999, nesting without end.
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


def _refuse(constant: str) -> JsonValue:
    raise ValueError(f"{constant} is not JSON")


def _text(value: JsonValue) -> str | None:
    return storable(value, _MAX_NAME_CHARS) if isinstance(value, str) else None


def _number(text: str | None, largest: int) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > len(str(largest)):
        return _UNKNOWN
    number = int(text)
    return number if number <= largest else _UNKNOWN
