"""The `import_rows` table: which rows of a file are tasks already, written by the transaction that made them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Index, Text, Uuid
from sqlmodel import Field

from task_api.models import Model


class ImportRow(Model, table=True):
    """One row of one import. `import_id` stands for its owner and its key."""

    __tablename__ = "import_rows"
    __table_args__ = (
        # Serves the purge.
        Index("import_rows_expires_at_idx", "expires_at"),
    )

    import_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    reference: str = Field(sa_column=Column(Text, primary_key=True))
    task_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
