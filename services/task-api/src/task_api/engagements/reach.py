"""How a statement says whose tasks its caller reaches. Every statement that goes by a task's id has it inside."""

from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, Text, cast, exists, literal, or_
from sqlalchemy.orm import Mapped
from sqlmodel import col, select

from chassis.identity import ENGAGEMENT_PREFIX
from task_api.engagements.models import Member
from task_api.engagements.roles import Act, roles_for
from task_api.engagements.spaces import Space


def reaches(owner: Mapped[str], user_id: str, act: Act) -> ColumnElement[bool]:
    """Say that what has this owner is a user's own, or in an engagement whose role allows something."""
    return or_(owner == user_id, within(owner, user_id, act))


def within(owner: Mapped[str], user_id: str, act: Act) -> ColumnElement[bool]:
    """Say that what has this owner is in an engagement where the user's role allows something."""
    return owner.in_(_owners(user_id, act))


def _owners(user_id: str, act: Act) -> Any:  # noqa: ANN401  (a SELECT of one column)
    owner = literal(ENGAGEMENT_PREFIX, Text()) + cast(col(Member.engagement_id), Text())
    return select(owner).where(col(Member.user_id) == user_id, col(Member.role).in_(roles_for(act)))


def role_in(owner: Mapped[str], user_id: str) -> ScalarSelect[Any]:
    """Give the user's role in the engagement that is an owner; NULL when there is none."""
    its = literal(ENGAGEMENT_PREFIX, Text()) + cast(col(Member.engagement_id), Text())
    return select(Member.role).where(col(Member.user_id) == user_id, its == owner).scalar_subquery()


def still_in(space: Space) -> tuple[ColumnElement[bool], ...]:
    """Say, for a list, that its reader is a member as of the very statement that reads it; nothing for one's own.

    It names no column of the list, so PostgreSQL asks once, and goes along the same index as without it.
    """
    if space.engagement_id is None:
        return ()
    its = (col(Member.engagement_id) == space.engagement_id, col(Member.user_id) == space.user_id)
    return (exists(select(Member.user_id).where(*its)),)
