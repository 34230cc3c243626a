"""The base of this service's tables: its own metadata, so no other service's tables are ever in it."""

from typing import ClassVar

from sqlalchemy import MetaData
from sqlmodel import SQLModel

from chassis.dead_letters.models import add_dead_letter_tables
from chassis.erased_subjects import add_erased_subjects_table
from chassis.identity.proxy.nonces import add_nonce_table
from chassis.inbox import add_inbox_tables
from chassis.migrations import service_metadata


class Model(SQLModel):
    """Base of every table of audit-worker; constraint names are fixed so that migrations can name them."""

    metadata: ClassVar[MetaData] = service_metadata()


add_inbox_tables(Model.metadata)
add_dead_letter_tables(Model.metadata)
add_erased_subjects_table(Model.metadata)
add_nonce_table(Model.metadata)
