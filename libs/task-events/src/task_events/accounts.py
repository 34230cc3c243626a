"""The contract of the topic `accounts`: that a user is to be erased, and which service has done its part.

Key and subject are the user's id, so all that is said about one user is in order. A request may come more than once,
also under another event id, for as long as a service has not confirmed it: whoever has done its part confirms again.
"""

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from task_events.cloudevents import (
    ACCOUNT_DATA_SCHEMA,
    EncodedEvent,
    InvalidEventError,
    describe_invalid,
    encode_stored_event,
)
from task_events.models import ACCOUNT_CONTRACT_VERSION, MAX_BIGINT
from task_events.topics import ACCOUNT_CONFIRMATIONS_TOPIC, ACCOUNTS_TOPIC

MAX_USER_ID_CHARS: Final = 255


class AccountEventType(StrEnum):
    """CloudEvents `type` of what happens to an account."""

    ERASURE_REQUESTED = "user.erasure_requested"
    ERASURE_CONFIRMED = "user.erasure_confirmed"


class _Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _AccountEventData(_Contract):
    contract_version: Annotated[
        str, Field(pattern=r"^1\.\d+$", description="`major.minor`; a minor only adds", examples=["1.0"])
    ] = ACCOUNT_CONTRACT_VERSION
    erasure_id: Annotated[str, Field(min_length=1, max_length=100, description="The same in request and confirmation")]
    corr_id: Annotated[str, Field(description="Correlation id of the request that ended the account")]


class ErasureRequestedData(_AccountEventData):
    """Everybody is to erase what they hold of this user, and to confirm it."""

    requested_at: Annotated[AwareDatetime, Field(description="When the user asked for it")]
    attempt: Annotated[int, Field(ge=1, description="1, and more when it is asked again")]
    engagements: Annotated[
        tuple[Annotated[int, Field(ge=1, le=MAX_BIGINT)], ...],
        Field(
            description="Engagements that end with this user, who was the last one in them: what belongs to "
            "`engagement:ID` is to be erased as what is theirs. Since 1.1"
        ),
    ] = ()


class ErasureConfirmedData(_AccountEventData):
    """A service holds nothing of this user any more."""

    service: Annotated[str, Field(min_length=1, max_length=100, description="App id", examples=["notifier"])]
    confirmed_at: AwareDatetime


class _AccountEvent(_Contract):
    specversion: Literal["1.0"] = "1.0"
    id: Annotated[str, Field(min_length=1, max_length=100)]
    source: Annotated[str, Field(min_length=1, max_length=200, description="`/taskwire/` and the app id")]
    subject: Annotated[
        str, Field(min_length=1, max_length=MAX_USER_ID_CHARS, description="The user's id; equal to the Kafka key")
    ]
    time: AwareDatetime
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str = ACCOUNT_DATA_SCHEMA
    traceparent: Annotated[str | None, Field(description="W3C trace context")] = None

    def _encode(self, event_type: AccountEventType, data: _AccountEventData, topic: str) -> EncodedEvent:
        return encode_stored_event(
            event_id=self.id,
            event_type=event_type.value,
            subject=self.subject,
            time=self.time,
            traceparent=self.traceparent,
            data=data.model_dump_json(),
            source=self.source,
            topic=topic,
        )


class ErasureRequested(_AccountEvent):
    """task-api says that a user is to be erased."""

    type: Literal[AccountEventType.ERASURE_REQUESTED] = AccountEventType.ERASURE_REQUESTED
    data: ErasureRequestedData

    def encode(self) -> EncodedEvent:
        """Give the event ready to be published."""
        return self._encode(self.type, self.data, ACCOUNTS_TOPIC)


class ErasureConfirmed(_AccountEvent):
    """A service says that it has erased a user."""

    type: Literal[AccountEventType.ERASURE_CONFIRMED] = AccountEventType.ERASURE_CONFIRMED
    data: ErasureConfirmedData

    def encode(self) -> EncodedEvent:
        """Give the event ready to be published."""
        return self._encode(self.type, self.data, ACCOUNT_CONFIRMATIONS_TOPIC)


AccountEvent = Annotated[ErasureRequested | ErasureConfirmed, Field(discriminator="type")]
ACCOUNT_EVENTS: Final[TypeAdapter[ErasureRequested | ErasureConfirmed]] = TypeAdapter(AccountEvent)
"""Reads any of them."""


def parse_account_event(body: bytes) -> ErasureRequested | ErasureConfirmed:
    """Read a structured-mode CloudEvent as an account event.

    Raises:
        InvalidEventError: It is none that this contract version can read. The message quotes no value.
    """
    try:
        return ACCOUNT_EVENTS.validate_json(body)
    except ValidationError as error:
        raise InvalidEventError(f"not an account event: {describe_invalid(error)}") from None
