"""The base of this service's tables: its own metadata, so no other service's tables are ever in it."""

from typing import ClassVar

from sqlalchemy import MetaData
from sqlmodel import SQLModel

from chassis.dead_letters.models import add_dead_letter_tables
from chassis.inbox import add_inbox_tables


class Model(SQLModel):
    """Base of every table of audit-worker; constraint names are fixed so that migrations can name them."""

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
        }
    )


add_inbox_tables(Model.metadata)
add_dead_letter_tables(Model.metadata)
