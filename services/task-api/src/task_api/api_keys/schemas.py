"""What requests about API keys may say and what is answered."""

from datetime import datetime
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.config import JsonDict

from chassis.identity import Permission
from chassis.identity.permissions import IN_A_KEY
from task_api.api_keys.models import ApiKey
from task_api.tasks.schemas import Moment, TaskRequest, without_nul

MAX_NAME_CHARS: Final = 100
MAX_SCOPES: Final = 20
MAX_OVERLAP_SECONDS: Final = 604_800
"""Seven days."""
_PREFIX: Final = "tw_7Qm2vXb9LcKd"
A_KEY: Final = _PREFIX + "_" + "0" * 45 + "3fYp"
_SCOPES: Final = sorted(IN_A_KEY)


def _trimmed(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value.strip()


def _for_keys(value: str) -> str:
    if value not in IN_A_KEY:
        reason = "is never in a key" if value in set(Permission) else "is no scope"
        raise ValueError(f"{reason}; there are {', '.join(_SCOPES)}")
    return value


def _each_once(scopes: list[str]) -> list[str]:
    return sorted(set(scopes))


Name = Annotated[
    str,
    Field(min_length=1, max_length=MAX_NAME_CHARS, description="what it is for", examples=["Backup script"]),
    AfterValidator(without_nul),
    AfterValidator(_trimmed),
]
Scope = Annotated[str, AfterValidator(_for_keys), WithJsonSchema({"type": "string", "enum": _SCOPES})]
Scopes = Annotated[
    list[Scope],
    Field(
        min_length=1,
        max_length=MAX_SCOPES,
        description="permissions that the key gives; of its owner's roles it has none",
        examples=[["tasks:read", "tasks:write"]],
    ),
    AfterValidator(_each_once),
]


class ApiKeyCreate(TaskRequest):
    """A new key."""

    name: Name
    scopes: Scopes
    expires_at: Annotated[
        Moment | None, Field(description="in the future; null: it does not end", examples=["2027-11-21T00:00:00Z"])
    ] = None


def _as_a_patch(schema: JsonDict) -> None:
    for field in ("name", "scopes"):
        shown = schema["properties"]
        if isinstance(shown, dict) and isinstance(declared := shown[field], dict):
            declared.pop("default", None)


class ApiKeyPatch(TaskRequest):
    """What to change; what is not named stays as it is."""

    model_config = ConfigDict(json_schema_extra=_as_a_patch)

    name: Name = ""
    scopes: Scopes = Field(default_factory=list)

    @property
    def new_name(self) -> str | None:
        """The name, if the caller gave one."""
        return self.name if "name" in self.model_fields_set else None

    @property
    def new_scopes(self) -> list[str] | None:
        """The scopes, if the caller gave some."""
        return self.scopes if "scopes" in self.model_fields_set else None


class ApiKeyRotation(TaskRequest):
    """How to rotate a key."""

    overlap_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=MAX_OVERLAP_SECONDS,
            strict=True,
            description="for which the secrets from before go on working; 0: they end at once",
            examples=[3600],
        ),
    ]


class ApiKeyOut(BaseModel):
    """A key, without its secret. Times are RFC 3339 in UTC."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[int, Field(description="never used again", examples=[3])]
    name: Annotated[str, Field(examples=["Backup script"])]
    scopes: Annotated[list[str], Field(description="sorted", examples=[["tasks:read", "tasks:write"]])]
    prefix: Annotated[str, Field(description="how it begins", examples=[_PREFIX])]
    last_characters: Annotated[str, Field(description="how it ends", examples=["3fYp"])]
    created_at: datetime
    expires_at: Annotated[datetime | None, Field(description="null: it does not end", examples=[None])]
    rotated_at: Annotated[datetime | None, Field(description="null until it is rotated", examples=[None])]
    overlap_ends_at: Annotated[
        datetime | None, Field(description="until when secrets from before the rotation work", examples=[None])
    ]
    last_used_at: Annotated[
        datetime | None, Field(description="a minute or so late; null: never", examples=["2026-11-21T09:02:46Z"])
    ]
    revoked_at: Annotated[datetime | None, Field(description="null while it is not revoked", examples=[None])]


class ApiKeyIssued(ApiKeyOut):
    """A key with its secret: the only time that it is shown."""

    key: Annotated[str, Field(description="send it as `Authorization: Bearer …`; it is not kept", examples=[A_KEY])]

    @classmethod
    def of(cls, key: ApiKey, text: str) -> Self:
        """Show a key whose secret was just made."""
        return cls(**ApiKeyOut.model_validate(key).model_dump(), key=text)
