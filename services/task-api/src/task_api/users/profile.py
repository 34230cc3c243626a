"""A profile as people see it, and how a change is merged into one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from pydantic import JsonValue

DEFAULT_TIME_ZONE: Final = "UTC"
DEFAULT_LOCALE: Final = "en"
_DEFAULTS: Final[Mapping[str, Any]] = {"time_zone": DEFAULT_TIME_ZONE, "locale": DEFAULT_LOCALE, "preferences": {}}


@dataclass(frozen=True)
class Profile:
    """What somebody said about themselves; by default nothing.

    Attributes:
        id: Whose it is.
        version: 0: nothing is stored.
    """

    id: str
    name: str | None = None
    email: str | None = None
    time_zone: str = DEFAULT_TIME_ZONE
    locale: str = DEFAULT_LOCALE
    preferences: dict[str, JsonValue] = field(default_factory=dict)
    version: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def etag(self) -> str:
        """Name this version."""
        return f'"profile-{self.version}"'

    def merged(self, changes: Mapping[str, Any]) -> "Profile":
        """Give the profile with some fields changed; null is the default, and preferences are merged."""
        values: dict[str, Any] = {
            name: _DEFAULTS.get(name) if value is None else value for name, value in changes.items()
        }
        if changes.get("preferences") is not None:
            values["preferences"] = merge_patch(self.preferences, changes["preferences"])
        return replace(self, **values)


def merge_patch(target: Mapping[str, JsonValue], patch: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Merge JSON objects as RFC 7396 says; both are of bounded depth."""
    merged = dict(target)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            before = merged.get(name)
            merged[name] = merge_patch(before if isinstance(before, dict) else {}, value)
        else:
            merged[name] = value
    return merged
