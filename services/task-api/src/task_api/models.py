"""The base of this service's tables: its own metadata, so no other service's tables are ever in it."""

from typing import ClassVar

from sqlalchemy import MetaData
from sqlmodel import SQLModel

from chassis.identity.proxy.nonces import add_nonce_table
from chassis.migrations import service_metadata


class Model(SQLModel):
    """Base of every table of task-api; constraint names are fixed so that migrations can name them."""

    metadata: ClassVar[MetaData] = service_metadata()


add_nonce_table(Model.metadata)
