"""The `profiles` table: what people say about themselves. Who said nothing has no row."""

from datetime import datetime
from typing import Any

from pydantic import JsonValue
from sqlalchemy import CheckConstraint, Column, DateTime, Index, Integer, LargeBinary, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from task_api.models import Model

_TIMESTAMP = DateTime(timezone=True)


class StoredProfile(Model, table=True):
    """One user's profile, as it is stored: name and e-mail are encrypted."""

    __tablename__ = "profiles"
    __table_args__: tuple[Any, ...] = (
        CheckConstraint("version >= 1", name="version"),
        # Serves `reencrypt`, which looks for what another key encrypted.
        Index("profiles_key_id_idx", "key_id"),
    )

    user_id: str = Field(sa_column=Column(Text, primary_key=True))
    name: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    email: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    time_zone: str = Field(sa_column=Column(Text, nullable=False))
    locale: str = Field(sa_column=Column(Text, nullable=False))
    preferences: dict[str, JsonValue] = Field(sa_column=Column(JSONB, nullable=False))
    # Under which key name and e-mail are encrypted, so that what is to be rewritten is found by index.
    key_id: str = Field(sa_column=Column(Text, nullable=False))
    version: int = Field(sa_column=Column(Integer, nullable=False))
    created_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
    updated_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
