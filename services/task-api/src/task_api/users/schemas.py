"""What requests and responses about profiles say."""

import json
import re
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from task_api.tasks.schemas import TimeZone, without_nul
from task_api.users.profile import Profile

MAX_NAME_CHARS: Final = 200
MAX_EMAIL_CHARS: Final = 254
MAX_LOCALE_CHARS: Final = 35
MAX_PREFERENCES_BYTES: Final = 16_384
MAX_PREFERENCES_DEPTH: Final = 5
_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f.]+(\.[^@\s\x00-\x1f\x7f.]+)+")
# Language, script, region, variants, extensions and private use of BCP 47 (RFC 5646, section 2.1), without the
# grandfathered ones.
_LOCALE = re.compile(
    r"[A-Za-z]{2,3}(-[A-Za-z]{3}){0,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|\d{3}))?(-([A-Za-z0-9]{5,8}|\d[A-Za-z0-9]{3}))*"
    r"(-[0-9A-WY-Za-wy-z](-[A-Za-z0-9]{2,8})+)*(-[xX](-[A-Za-z0-9]{1,8})+)?"
)


def _one_line(value: str) -> str:
    if not value.strip() or not value.strip().isprintable():
        raise ValueError("must be one line that is not blank")
    return value.strip()


def _email(value: str) -> str:
    if not _EMAIL.fullmatch(value):
        raise ValueError("must be an e-mail address")
    return value


def _locale(value: str) -> str:
    if not _LOCALE.fullmatch(value):
        raise ValueError("must be a language tag of BCP 47, e.g. de-CH")
    return value


def _bounded(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    check_preferences(value)
    return value


def check_preferences(value: dict[str, JsonValue]) -> None:
    """Refuse preferences that are too large or too deep.

    Raises:
        ValueError: They are.
    """
    if _depth(value) > MAX_PREFERENCES_DEPTH:
        raise ValueError(f"must not be nested deeper than {MAX_PREFERENCES_DEPTH} levels")
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode(errors="replace")) > MAX_PREFERENCES_BYTES:
        raise ValueError(f"must have at most {MAX_PREFERENCES_BYTES} bytes as JSON")
    if "\\u0000" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain NUL or half of a character")


def _depth(value: JsonValue) -> int:
    """Count levels without recursion: what is nested too deep must not end the process."""
    level, depth = [value], 0
    while level and depth <= MAX_PREFERENCES_DEPTH:
        inner: list[JsonValue] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        depth += any(isinstance(item, dict | list) for item in level)
        level = inner
    return depth


Name = Annotated[
    str,
    Field(min_length=1, max_length=MAX_NAME_CHARS, examples=["Alice Martin"]),
    AfterValidator(without_nul),
    AfterValidator(_one_line),
]
Email = Annotated[str, Field(max_length=MAX_EMAIL_CHARS, examples=["alice@example.org"]), AfterValidator(_email)]
Locale = Annotated[str, Field(max_length=MAX_LOCALE_CHARS, examples=["fr-CA"]), AfterValidator(_locale)]
Preferences = Annotated[
    dict[str, JsonValue],
    Field(
        description=f"any JSON of the clients' own, at most {MAX_PREFERENCES_BYTES} bytes and {MAX_PREFERENCES_DEPTH} "
        "levels deep",
        examples=[{"theme": "dark", "board": {"columns": 3}}],
    ),
]


class ProfilePatch(BaseModel):
    """What is to change. What is not named stays; null takes a value back to what it is without one."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    email: Email | None = None
    time_zone: TimeZone | None = None
    locale: Locale | None = None
    preferences: Annotated[
        Annotated[Preferences, AfterValidator(_bounded)] | None,
        Field(description="merged into those that are there (RFC 7396): null removes a member, or all of them"),
    ] = None

    def changes(self) -> dict[str, Any]:
        """Give the fields that were named."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class ProfileOut(BaseModel):
    """What somebody said about themselves, and defaults for what they did not."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[str, Field(description="subject of the credential", examples=["alice"])]
    name: Annotated[str | None, Field(examples=["Alice Martin"])]
    email: Annotated[str | None, Field(examples=["alice@example.org"])]
    time_zone: Annotated[str, Field(description="IANA name; `UTC` until it is set", examples=["Europe/Paris"])]
    locale: Annotated[str, Field(description="BCP 47; `en` until it is set", examples=["fr-CA"])]
    preferences: Preferences
    version: Annotated[int, Field(description="0 until the first change, then one more with each", examples=[3])]
    created_at: Annotated[AwareDatetime | None, Field(description="null until the first change")]
    updated_at: AwareDatetime | None

    @classmethod
    def of(cls, profile: Profile) -> Self:
        """Show a profile."""
        return cls.model_validate(profile)
