"""The metrics of the running stack are those of docs/reference/metrics.md, and callers cannot make more of them."""

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.e2e.coming_back import PATIENCE
from tests.observability.exposition import read, series
from tests.observability.reference import SERVICES, documented, process_metrics

from devstack.polling import within

if TYPE_CHECKING:
    from tests.e2e.conftest import Gauges, Person

    from devstack.stack_under_test import StackUnderTest

pytestmark = pytest.mark.e2e


@pytest.fixture
async def pages(alice: "Person", gauges: "Gauges") -> dict[str, str]:
    """Every metrics page, after something has happened and every part has said so."""
    await alice.create_task()
    found: dict[str, str] = {}

    async def all_is_there() -> bool:
        # A sidecar counts an event after its consumer has answered, and shows no metric before it has counted once.
        found.update({part: (await gauges.http.get(url)).text for part, url in gauges.pages.items()})
        return not missing(found)

    await within(PATIENCE, all_is_there, 0.2)
    return found


def missing(pages: dict[str, str]) -> list[str]:
    """Tell what is documented and not exposed."""
    exposed = {part: read(page) for part, page in pages.items()}
    return [f"{one.name} by {part}" for one in documented() for part in one.parts if one.name not in exposed[part]]


async def test_what_is_documented_is_exposed_by_whom_it_says_and_as_what_it_says(pages: dict[str, str]) -> None:
    assert missing(pages) == []
    exposed = {part: read(page) for part, page in pages.items()}
    for metric in documented():
        for part in metric.parts:
            found = exposed[part][metric.name]
            assert found.type == metric.type, f"{metric.name} at {part}"
            assert found.labels in (metric.labels, None), f"{metric.name} at {part}"


@pytest.mark.parametrize("service", SERVICES)
async def test_what_is_exposed_is_documented(service: str, pages: dict[str, str]) -> None:
    promised = {metric.name for metric in documented() if service in metric.parts}
    ours = {name for name in read(pages[service]) if not name.startswith("python_gc_")}
    assert ours - promised == process_metrics()


async def test_callers_cannot_make_series(alice: "Person", gauges: "Gauges", stack: "StackUnderTest") -> None:
    """Ids, owners, paths, methods, budgets: whatever is asked for, the number of series stays what it was."""
    url = stack.urls["task-api"]

    async def ask_as(number: int) -> None:
        owner = {"Authorization": f"Bearer {stack.token(f'owner-{number}-of-{alice.name}')}"}
        task = (await alice.http.post(f"{url}/api/v1/tasks", json={"title": "x"}, headers=owner)).json()
        for path in (f"/api/v1/tasks/{task['id']}", f"/api/v1/tasks/{10**9 + number}", f"/no/such/path/{number}"):
            await alice.http.get(url + path, headers=owner)
        await alice.http.request(f"METHOD{number}", f"{url}/api/v1/tasks/{task['id']}", headers=owner)
        for service in ("audit-worker", "notifier"):
            await alice.http.get(f"{stack.urls[service]}/api/v1/notifications/{number}", headers=owner)

    async def consumed() -> dict[str, float]:
        return {part: await gauges.read(part, "taskwire_inbox_events_total") for part in ("audit-worker", "notifier")}

    async def all_series() -> set[str]:
        pages = [(await gauges.http.get(gauges.pages[service])).text for service in SERVICES]
        return set().union(*map(series, pages))

    async def made_by(numbers: range) -> set[str]:
        before, at_first = await all_series(), await consumed()

        async def are_consumed() -> bool:
            # Each against its own count: whoever was started again by another test began at nought.
            now = await consumed()
            return all(now[part] >= count + len(numbers) for part, count in at_first.items())

        await asyncio.gather(*map(ask_as, numbers))
        assert await within(PATIENCE, are_consumed, 0.2), (at_first, await consumed())
        return await all_series() - before

    # The first time of anything makes series, a repeated delivery too. What callers make comes with every caller.
    rounds = [await made_by(range(first, first + 20)) for first in (0, 20, 40)]
    assert set() in rounds, rounds[-1]
