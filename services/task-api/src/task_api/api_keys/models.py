"""The tables of API keys. They hold no secret: of each only a keyed hash, its public id and its last characters."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, ForeignKey, Identity, Index, LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from task_api.models import Model

_TIMESTAMP = DateTime(timezone=True)


class ApiKey(Model, table=True):
    """A key of one owner, with the secret that was made last. Revoked, it stays for a while and has no secrets."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("cardinality(scopes) >= 1", name="scopes"),
        Index("api_keys_owner_id_id_idx", "owner_id", "id"),
        # Serves the purge.
        Index("api_keys_revoked_at_idx", "revoked_at", postgresql_where="revoked_at IS NOT NULL"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    owner_id: str = Field(sa_column=Column(Text, nullable=False))
    name: str = Field(sa_column=Column(Text, nullable=False))
    scopes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    prefix: str = Field(sa_column=Column(Text, nullable=False))
    last_characters: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
    expires_at: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))
    rotated_at: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))
    overlap_ends_at: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))
    last_used_at: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))
    revoked_at: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))


class ApiKeySecret(Model, table=True):
    """What opens with a key: one secret, and after a rotation those before it until their overlap ends."""

    __tablename__ = "api_key_secrets"
    __table_args__ = (
        CheckConstraint("octet_length(digest) = 32", name="digest"),
        Index("api_key_secrets_key_id_idx", "key_id"),
        Index("api_key_secrets_valid_until_idx", "valid_until", postgresql_where="valid_until IS NOT NULL"),
    )

    public_id: str = Field(sa_column=Column(Text, primary_key=True))
    key_id: int = Field(sa_column=Column(BigInteger, ForeignKey("api_keys.id", ondelete="CASCADE"), nullable=False))
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    pepper_id: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
    valid_until: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))
