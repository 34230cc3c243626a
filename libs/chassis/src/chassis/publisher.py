"""Publishing through the Dapr sidecar, in bulk."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

import httpx2
from dapr.aio.clients import DaprClient
from dapr.clients import BulkPublishEntry
from dapr.clients.exceptions import DaprGrpcError
from dapr.conf import settings as dapr_settings
from grpc import StatusCode

from chassis.resilience import CallPolicy, Judgement, ResilientCall
from task_events import CONTENT_TYPE, EncodedEvent
from task_events.topics import PUBSUB_NAME

_HEALTH_TIMEOUT: Final = 2.0
_UNREACHABLE: Final = {StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED}


class PublishError(Exception):
    """The sidecar could not be asked or did not answer in time: whether anything is in Kafka is unknown."""


class RefusedError(PublishError):
    """The sidecar answered that it could not publish all of it: some may be in Kafka, some are not.

    Over gRPC, daprd 1.18 names no failed entries: one refused message fails the whole call although the
    others landed. Who wants to know which it was sends smaller batches.
    """


class Publisher(Protocol):
    """Where events are sent."""

    @property
    def open_for(self) -> float:
        """Seconds until it makes sense to try again."""
        ...

    async def publish(self, events: Sequence[EncodedEvent]) -> None:
        """Send events; when it returns, all of them are in Kafka.

        Raises:
            RefusedError: At least one of them was refused.
            PublishError: Nothing is known.
        """
        ...


class DaprPublisher:
    """Sends events to their topics through this process's sidecar."""

    def __init__(self, *, http_port: int, grpc_port: int, api_token: str, timeout: float) -> None:
        """Say where the sidecar is.

        Args:
            http_port: Its HTTP port on this host, asked for its health.
            grpc_port: Its gRPC port on this host.
            api_token: What it demands of callers.
            timeout: Seconds for one bulk publish.
        """
        self._health_url = f"http://127.0.0.1:{http_port}/v1.0/healthz/outbound"
        self._address = f"127.0.0.1:{grpc_port}"
        self._token = api_token
        self._client: DaprClient | None = None
        self._http = httpx2.AsyncClient(timeout=None)  # bounded where it is used, as a whole
        policy = CallPolicy("dapr-publish", timeout=timeout, failure_threshold=3, recovery_timeout=2.0)
        # A sidecar that refuses is well; whether Kafka is, its own breaker judges (`components/resiliency.yaml`).
        self._call = ResilientCall(policy, judge=_what_it_says)
        # The SDK read these from the environment when it was imported; what counts is what we were given.
        vars(dapr_settings).update(
            DAPR_HTTP_PORT=http_port,
            DAPR_GRPC_PORT=grpc_port,
            DAPR_API_TOKEN=api_token,
            DAPR_HEALTH_TIMEOUT=_HEALTH_TIMEOUT,
        )

    @property
    def open_for(self) -> float:
        """Seconds until the breaker lets a call through."""
        return self._call.open_for

    async def publish(self, events: Sequence[EncodedEvent]) -> None:
        """Send events, those of each topic in one bulk call; see `Publisher.publish`."""
        by_topic: dict[str, list[BulkPublishEntry]] = {}
        for event in events:
            entry = BulkPublishEntry(
                event=event.body,
                content_type=CONTENT_TYPE,
                entry_id=event.id,
                metadata={"partitionKey": event.subject},
            )
            by_topic.setdefault(event.topic, []).append(entry)
        try:
            await self._call(lambda: self._send(by_topic))
        except RefusedError:
            raise
        except Exception as error:
            await self._disconnect()
            raise PublishError(f"publishing through Dapr failed: {_reason(error)}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._disconnect()
        await self._http.aclose()

    async def _send(self, by_topic: Mapping[str, list[BulkPublishEntry]]) -> None:
        client = await self._connected()
        for topic, entries in by_topic.items():
            try:
                response = await client.publish_events(pubsub_name=PUBSUB_NAME, topic_name=topic, data=entries)
            except DaprGrpcError as error:
                if error.code() in _UNREACHABLE:
                    raise
                raise RefusedError(f"Dapr refused events: {_reason(error)}") from error
            if response.failed_entries:
                raise RefusedError(f"Dapr refused events: {response.failed_entries[0].error}")

    async def _connected(self) -> DaprClient:
        """Give the client, made anew after a failure.

        Its constructor asks the sidecar's health with blocking calls. Asking first, without blocking, keeps
        that to one quick answer; a new client also starts without gRPC's reconnect backoff of up to 2 min.
        """
        if self._client is None:
            async with asyncio.timeout(_HEALTH_TIMEOUT):
                response = await self._http.get(self._health_url, headers={"dapr-api-token": self._token})
            response.raise_for_status()
            self._client = DaprClient(self._address)
        return self._client

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_HEALTH_TIMEOUT):
                    await client.close()


def _what_it_says(error: Exception) -> Judgement:
    return Judgement.WELL if isinstance(error, RefusedError) else Judgement.UNWELL


def _reason(error: Exception) -> str:
    return f"{error.code().name} {error.details()}" if isinstance(error, DaprGrpcError) else repr(error)
