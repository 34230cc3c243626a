"""What one of our services asks another: a form, with the secret of our services, and an answer of a few bytes."""

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import httpx2

from chassis.bounded_body import bounded_body
from chassis.resilience import CallPolicy, Judgement, ResilientCall

T = TypeVar("T")
MAX_ANSWER_BYTES: Final = 16 * 1024
UNANSWERED: Final = (httpx2.HTTPError, ValueError, TimeoutError)
"""What `Questions.ask` raises when there was no answer, besides `CircuitOpenError`."""


class Questions:
    """Asks one question of one service; one instance per process, as it holds the breaker."""

    def __init__(self, url: str, secret: str, client: httpx2.AsyncClient, policy: CallPolicy) -> None:
        """Say whom to ask.

        Args:
            url: Where the other service answers.
            secret: What it demands of who asks.
            client: Used for the calls; must not follow redirects.
            policy: How a call is made.
        """
        self._url, self._headers, self._client = url, {"Authorization": f"Bearer {secret}"}, client
        self._call = ResilientCall(policy, judge=_what_it_says)

    async def ask(self, form: Mapping[str, str], read: Callable[[bytes], T]) -> T:
        """Ask, and read the answer.

        Args:
            form: The question.
            read: Makes something of the body; its ValueError counts as no answer.

        Raises:
            CircuitOpenError: It was not asked.
            httpx2.HTTPError: It did not answer, or with an error.
            TimeoutError: Not in time.
            ValueError: Nothing that can be read.
        """
        return await self._call(lambda: self._post(form, read))

    async def _post(self, form: Mapping[str, str], read: Callable[[bytes], T]) -> T:
        async with self._client.stream("POST", self._url, data=dict(form), headers=self._headers) as response:
            body = await bounded_body(response, MAX_ANSWER_BYTES, "answer")
        return read(body)


def _what_it_says(error: Exception) -> Judgement:
    """A 4xx is an answer, if of somebody who was given another secret; to ask again would bring the same."""
    refused = isinstance(error, httpx2.HTTPStatusError) and error.response.status_code < 500  # noqa: PLR2004
    return Judgement.WELL if refused else Judgement.UNWELL
