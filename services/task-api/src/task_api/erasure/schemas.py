"""What requests and responses about erasures say."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from task_api.erasure.service import CONSUMERS, ErasureStatus

MAX_SUBJECT_CHARS = 255


class ErasureRequest(BaseModel):
    """The caller's word that it is meant."""

    model_config = ConfigDict(extra="forbid")

    confirm: Annotated[
        str,
        Field(
            max_length=MAX_SUBJECT_CHARS, description="the caller's own id, the `sub` of the token", examples=["alice"]
        ),
    ]


class ServiceErasureOut(BaseModel):
    """One service's part."""

    service: Annotated[str, Field(examples=["notifier"])]
    confirmed_at: Annotated[
        AwareDatetime | None,
        Field(description="since when it holds nothing; null: it is not done yet", examples=[None]),
    ]


class ErasureOut(BaseModel):
    """How far an erasure is."""

    id: Annotated[UUID, Field(examples=["01a1fbfc-1054-7165-bf9a-d41f7bc8663b"])]
    state: Annotated[
        Literal["waiting_for_services", "erasing", "done"],
        Field(description="`waiting_for_services`: not all have confirmed; `erasing`: task-api erases, as the last"),
    ]
    requested_at: Annotated[AwareDatetime, Field(examples=["2026-11-21T12:00:00.000000Z"])]
    erased_at: Annotated[AwareDatetime | None, Field(description="null until all is done", examples=[None])]
    services: list[ServiceErasureOut]

    @classmethod
    def of(cls, status: ErasureStatus) -> Self:
        """Make the answer."""
        erasure, services = status.erasure, status.services
        return cls(
            id=erasure.id,
            state=_state(erasure.erased_at, waiting=any(services[service] is None for service in CONSUMERS)),
            requested_at=erasure.requested_at,
            erased_at=erasure.erased_at,
            services=[ServiceErasureOut(service=name, confirmed_at=at) for name, at in services.items()],
        )


def _state(erased_at: datetime | None, *, waiting: bool) -> Literal["waiting_for_services", "erasing", "done"]:
    if erased_at is not None:
        return "done"
    return "waiting_for_services" if waiting else "erasing"
