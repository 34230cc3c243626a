"""The story of one task, told with real requests: created, completed, audited, notified."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from devstack.console import Console
from devstack.failures import ProvisionError

Json = dict[str, object]
_PATIENCE: Final = 30.0
_POLL: Final = 0.1
_TIMEOUT: Final = 10.0
_SHORT: Final = 16


@dataclass(frozen=True)
class Demo:
    """One telling of the story.

    Attributes:
        console: Where it is told.
        urls: Base URL per service.
        user: Who acts.
        token: Their token.
        token_command: What a person types to get one.
        hint: Where to look when a step fails; the name of the service is put behind it.
    """

    console: Console
    urls: Mapping[str, str]
    user: str
    token: str
    token_command: str
    hint: str = "Look at make status and make logs SERVICE="

    def play(self) -> None:
        """Tell it from start to end.

        Raises:
            ProvisionError: A step did not go as it should.
        """
        api = self.urls["task-api"]
        self._scene(f"1. {self.user} gets a token", f"TOKEN=$({self.token_command})")
        self._result(f"{self.token[:_SHORT]}… ({len(self.token)} characters)")
        body: Json = {"title": "Buy milk", "priority": "high"}
        task = self._call("2. creates a task", "task-api", "POST", f"{api}/api/v1/tasks", body)
        began = time.monotonic()
        self._call("3. completes it", "task-api", "POST", f"{api}/api/v1/tasks/{task['id']}/complete")
        self._await_audit(task["id"])
        self._await_notifications(task["id"])
        waited = time.monotonic() - began
        self.console.say()
        self.console.heading("Both changes went task-api → outbox → Dapr → Kafka → Dapr → audit-worker and notifier.")
        self.console.say(f"From the completion to the last of them: {waited:.2f} s.")

    def _await_audit(self, task_id: object) -> None:
        url = f"{self.urls['audit-worker']}/api/v1/audit/entries?task_id={task_id}"
        items = self._until("4. finds both changes in the audit trail", "audit-worker", url, lambda _: True)
        for item in items:
            digest = str(item.get("hash"))[:_SHORT]
            self._result(f"v{item.get('task_version')} {item.get('type')} by {item.get('actor')}, hash {digest}…")

    def _await_notifications(self, task_id: object) -> None:
        url = f"{self.urls['notifier']}/api/v1/notifications"
        items = self._until(
            "5. finds both in the notifications", "notifier", url, lambda item: item.get("task_id") == task_id
        )
        for item in items:
            self._result(f"{item.get('type')}: {item.get('title')}")

    def _call(self, title: str, service: str, method: str, url: str, body: Json | None = None) -> Json:
        data = f" -d '{json.dumps(body)}' -H 'Content-Type: application/json'" if body is not None else ""
        self._scene(title, f"curl -sS -X {method} '{url}' -H \"Authorization: Bearer $TOKEN\"{data}")
        answer = self._request(service, method, url, body)
        self._result(json.dumps({name: answer.get(name) for name in ("id", "title", "completed", "version")}))
        return answer

    def _until(self, title: str, service: str, url: str, wanted: Callable[[Json], bool]) -> list[Json]:
        """Ask until both events of the task are there."""
        self._scene(title, f"curl -sS '{url}' -H \"Authorization: Bearer $TOKEN\"")
        deadline = time.monotonic() + _PATIENCE
        expected = {"task.created", "task.completed"}
        while True:
            answer = self._request(service, "GET", url)
            items = answer.get("items")
            found = [item for item in items if wanted(item)] if isinstance(items, list) else []
            if expected <= {item.get("type") for item in found}:
                return found
            if time.monotonic() > deadline:
                seen = ", ".join(sorted(str(item.get("type")) for item in found)) or "nothing"
                raise ProvisionError(
                    f"{service} did not show both changes",
                    f"after {_PATIENCE:.0f} s there is {seen}",
                    f"{self.hint}{service}",
                )
            time.sleep(_POLL)

    def _request(self, service: str, method: str, url: str, body: Json | None = None) -> Json:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310
        # Never by way of a proxy: this is our own machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_TIMEOUT) as response:
                answer: Json = json.load(response)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            raise self._failed(service, f"{method} {url} was answered {error.code}: {text}") from error
        except (OSError, ValueError) as error:
            raise self._failed(service, f"{method} {url} got no usable answer ({error})") from error
        return answer

    def _failed(self, service: str, why: str) -> ProvisionError:
        return ProvisionError("the demo stopped", why, f"{self.hint}{service}")

    def _scene(self, title: str, command: str) -> None:
        self.console.say()
        self.console.heading(title)
        self.console.say(f"  $ {command}")

    def _result(self, text: str) -> None:
        self.console.say(f"    {text}")
