"""People in front of the whole real stack: one who owns things, one who wants them."""

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import httpx2
import pytest
import uuid_utils
from tests.e2e.conftest import Person

if TYPE_CHECKING:
    from devstack.stack_under_test import StackUnderTest

Enter = Callable[[str], Person]


@pytest.fixture
async def enter(stack: "StackUnderTest") -> AsyncIterator[Enter]:
    """Makes persons that nobody else in the test run is."""
    clients: list[httpx2.AsyncClient] = []

    def make(who: str) -> Person:
        name = f"{who}-{uuid_utils.uuid7()}"
        headers = {"Authorization": f"Bearer {stack.token(name)}"}
        clients.append(httpx2.AsyncClient(headers=headers, timeout=30))
        return Person(name, clients[-1], dict(stack.urls))

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
def victim(enter: Enter) -> Person:
    """Somebody who owns things."""
    return enter("victim")


@pytest.fixture
def attacker(enter: Enter) -> Person:
    """Somebody else, with a good token of their own."""
    return enter("mallory")
