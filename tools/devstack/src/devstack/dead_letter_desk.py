"""The dead letters of one consumer, by its API."""

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from devstack.failures import ProvisionError

Json = dict[str, Any]  # what the API answers, for printing
_TIMEOUT: Final = 60.0
_PAGE: Final = 200
_AT_ONCE: Final = 50


@dataclass(frozen=True)
class DeadLetterDesk:
    """Where an operator looks at letters and settles them.

    Attributes:
        url: Base URL of the consumer.
        token: Of a user with role admin.
    """

    url: str
    token: str

    def open_letters(self) -> list[Json]:
        """Give all open letters, newest first, without their content."""
        query = f"?status=open&limit={_PAGE}"
        letters: list[Json] = []
        cursor = ""
        while True:
            page = self._ask("GET", f"{query}{cursor}")
            letters += page["items"]
            if page["next_cursor"] is None:
                return letters
            cursor = f"&cursor={page['next_cursor']}"

    def show(self, number: int) -> Json:
        """Give a letter with the original message."""
        return self._ask("GET", f"/{number}")

    def discard(self, number: int, note: str) -> Json:
        """Close a letter with a note."""
        return self._ask("POST", f"/{number}/discard", {"note": note})

    def redrive(self, numbers: Sequence[int] | None) -> list[Json]:
        """Redrive the named letters, or all that are open; give what became of each."""
        if numbers is not None:
            some = [list(numbers[start : start + _AT_ONCE]) for start in range(0, len(numbers), _AT_ONCE)]
            return [item for ids in some for item in self._ask("POST", "/redrive", {"ids": ids})["items"]]
        outcomes: list[Json] = []
        cursor = None
        while True:
            page = self._ask("POST", "/redrive", {"limit": _AT_ONCE, "cursor": cursor})
            outcomes += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return outcomes

    def _ask(self, method: str, path: str, body: Json | None = None) -> Json:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}/api/v1/dead-letters{path}", data, headers, method=method
        )
        # Never by way of a proxy: this is our own machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_TIMEOUT) as response:
                answer: Json = json.load(response)
        except urllib.error.HTTPError as error:
            raise _refused(error) from error
        except (OSError, ValueError) as error:
            raise ProvisionError("the service did not answer", str(error), "Look at make status") from error
        return answer


def _refused(error: urllib.error.HTTPError) -> ProvisionError:
    try:
        detail = str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"HTTP {error.code}"
    return ProvisionError("the service refused", detail, "List the letters: make dlq")
