"""Clients that change tasks at a steady rate, whatever happens, and write down what they were told."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import httpx2
from tests.chaos.ledger import Change, Ledger

_OK: Final = range(200, 300)
_DELETED: Final = 204
_UNAVAILABLE: Final = 503
_NOT_FOUND: Final = 404
_TASKS_PER_WRITER: Final = 8
_LONG: Final = 5_000
_LONG_SHARE: Final = 0.2
_HOT_TASKS: Final = 2
_HOT_SHARE: Final = 0.6
_DELETE_SHARE: Final = 0.05
_TOGGLE_SHARE: Final = 0.2


@dataclass
class _Task:
    """A task as its writer knows it."""

    id: int
    title: str
    deleted: bool = False


@dataclass
class Writer:
    """One user, whose requests overlap: the next one leaves when it is due, answered or not.

    Attributes:
        name: Subject of the user's token, and the beginning of every title.
        http: Sends with that token.
        urls: The replicas of task-api; each request goes to one of them.
        ledger: Where the answers go.
        chance: Decides what to do next.
        patience: Seconds that it waits for an answer.
    """

    name: str
    http: httpx2.AsyncClient
    urls: list[str]
    ledger: Ledger
    chance: random.Random
    patience: float = 12.0
    _tasks: list[_Task] = field(default_factory=list)
    _number: int = 0

    async def write(self, rate: float, enough: asyncio.Event) -> None:
        """Send requests at a rate until it is enough, and wait for the last answers."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in count():
                await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
                if enough.is_set():
                    return
                group.create_task(self._request())

    async def _request(self) -> None:
        self._number += 1
        title = f"{self.name} {self._number}"
        url = f"{self.chance.choice(self.urls)}/api/v1/tasks"
        alive = [task for task in self._tasks if not task.deleted]
        if len(alive) < _TASKS_PER_WRITER:
            await self._send(None, "POST", url, title)
            return
        # A few tasks get most of the changes: versions that follow each other closely are what can be reordered.
        task = self.chance.choice(alive[-_HOT_TASKS:] if self.chance.random() < _HOT_SHARE else alive)
        draw = self.chance.random()
        if draw < _DELETE_SHARE:
            task.deleted = True
            await self._send(task, "DELETE", f"{url}/{task.id}", task.title)
        elif draw < _DELETE_SHARE + _TOGGLE_SHARE:
            await self._send(task, "POST", f"{url}/{task.id}/toggle", None)
        else:
            await self._send(task, "PATCH", f"{url}/{task.id}", title)

    async def _send(self, task: _Task | None, method: str, url: str, title: str | None) -> None:
        body = None
        if title is not None and method != "DELETE":
            long = self.chance.random() < _LONG_SHARE
            body = {"title": title, "description": "x" * _LONG if long else None}
        try:
            async with asyncio.timeout(self.patience):
                response = await self.http.request(method, url, json=body)
        except (TimeoutError, OSError, httpx2.TransportError):
            self.ledger.lost += 1
            return
        now = time.time()
        match response.status_code:
            case status if status in _OK:
                self._note(task, response, title or "", now)
            case status if status == _UNAVAILABLE:
                self.ledger.refused += 1
            case status if status == _NOT_FOUND and task is not None and task.deleted:
                pass  # our own deletion was faster
            case status:
                self.ledger.unexpected[f"{method}: {status} {response.text[:200]}"] += 1

    def _note(self, task: _Task | None, response: httpx2.Response, title: str, now: float) -> None:
        if response.status_code == _DELETED:
            assert task is not None
            self.ledger.acknowledged.append(Change(task.id, None, title, now))
            return
        answer = response.json()
        if task is None:
            self._tasks.append(_Task(answer["id"], answer["title"]))
        self.ledger.acknowledged.append(Change(answer["id"], answer["version"], answer["title"], now))
