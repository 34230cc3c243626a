"""What responses of the trail say."""

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, PlainSerializer

from task_events import utc_text


def _as_utc_text(moment: datetime) -> str:
    return utc_text(moment)


def _is_none(value: object) -> bool:
    return value is None


# As the chain hashes them, so that an entry can be verified as it was served.
HashedTime = Annotated[AwareDatetime, PlainSerializer(_as_utc_text), Field(json_schema_extra={"format": "date-time"})]
Sha256 = Annotated[
    str,
    Field(pattern="^[0-9a-f]{64}$", examples=["273c6e23d3117df44c9408b3eed9ea0263ae052a95ba5fe048eb20339e1fea9c"]),
]


class AuditEntryOut(BaseModel):
    """One committed change of one task. `audit_worker.trail.chain` says how to verify its hash."""

    model_config = ConfigDict(from_attributes=True)

    sequence: Annotated[int, Field(description="position in the chain, from 1, without holes", examples=[2])]
    event_id: Annotated[str, Field(examples=["01976f5e-7c3a-7d55-9a51-0c7f6b1f3b52"])]
    type: Annotated[str, Field(examples=["task.completed"])]
    task_id: Annotated[int, Field(examples=[7])]
    task_version: Annotated[int, Field(description="of the task after the change", examples=[2])]
    owner_id: Annotated[str, Field(description="owner of the task", examples=["alice"])]
    actor: Annotated[str, Field(description="who made the change", examples=["alice"])]
    changes: Annotated[
        dict[str, JsonValue],
        Field(
            description="each changed field with its `old` and `new` value",
            examples=[{"completed": {"old": False, "new": True}}],
        ),
    ]
    task: Annotated[
        dict[str, JsonValue],
        Field(
            description="the whole task after the change",
            examples=[{"id": 7, "title": "Buy milk", "completed": True, "version": 2}],
        ),
    ]
    occurred_at: Annotated[HashedTime, Field(description="when the change was made")]
    corr_id: Annotated[
        str,
        Field(
            description="correlation id of the request that made the change",
            examples=["01a1fbfc-1054-7165-bf9a-d41f7bc8663b"],
        ),
    ]
    recorded_at: Annotated[HashedTime, Field(description="when this entry was written")]
    salt: Annotated[
        str,
        Field(
            description="random, part of the content; empty once somebody was erased from the entry",
            examples=["5b0e8a4f6f0b4f0f9d3c1a7e2b6d8c90"],
        ),
    ]
    actor_salt: Annotated[
        str | None,
        Field(
            exclude_if=_is_none,
            description="random; empty once the actor was erased; absent where the owner made the change",
            examples=["c1d0e2f3a4b5968778695a4b3c2d1e0f"],
        ),
    ] = None
    actor_hash: Annotated[
        Sha256 | None,
        Field(
            exclude_if=_is_none,
            description="SHA-256 over actor_salt and actor, by RFC 8785; absent where the owner made the change",
        ),
    ] = None
    content_hash: Annotated[
        Sha256,
        Field(description="SHA-256 over salt, owner_id, actor (or actor_hash), changes, task, corr_id: RFC 8785"),
    ]
    prev_hash: Annotated[Sha256, Field(description="`hash` of the entry before; 64 zeros in the first")]
    hash: Annotated[Sha256, Field(description="SHA-256 over the members that are not content, by RFC 8785")]
