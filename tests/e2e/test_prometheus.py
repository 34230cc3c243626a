"""A real Prometheus on the running stack: everything that dashboards and rules ask for is there."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import yaml
from tests.e2e.coming_back import PATIENCE
from tests.observability.queries import ALERTS, PROMETHEUS, asked, recorded, rules

from devstack.layout import HOST
from devstack.polling import within
from devstack.ports import free_port
from devstack.services import SERVICES

if TYPE_CHECKING:
    from tests.e2e.conftest import Person

    from devstack.running_stack import RunningStack

BINARY = shutil.which("prometheus")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        BINARY is None,
        reason="QUERIES NOT ASKED OF A REAL PROMETHEUS: not installed (Debian and Ubuntu: apt-get install prometheus)",
    ),
]
OF_OTHERS = {"up", "ALERTS", "kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"}
"""Made by Prometheus itself, or by what there is on Kubernetes alone."""
LABELS_THAT_NO_CALLER_MAKES = {"le", "state", "outcome", "verdict", "result"}
"""Their series are there from the start."""


class Prometheus:
    """A server that scrapes the stack every three seconds, and waits as long for a page, with our rules."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def is_ready(self) -> bool:
        try:
            return (await self._http.get("/-/ready")).status_code == 200
        except httpx2.TransportError:
            return False

    async def get(self, path: str, **parameters: str) -> dict[str, Any]:
        response = await self._http.get(f"/api/v1/{path}", params=parameters)
        assert response.status_code == 200, response.text
        data: dict[str, Any] = response.json()["data"]
        return data

    async def query(self, expr: str) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = (await self.get("query", query=expr))["result"]
        return result


def config_for(stack: "RunningStack") -> dict[str, Any]:
    """Give the configuration that is deployed, with the addresses of this stack."""
    config: dict[str, Any] = yaml.safe_load(PROMETHEUS.read_text())
    ports = stack.ports
    addresses = {service.app_id: [f"{HOST}:{ports.app(service.index)}"] for service in SERVICES}
    addresses["daprd"] = [f"{HOST}:{ports.dapr_metrics(service.index)}" for service in SERVICES]
    config["global"] |= {"scrape_interval": "3s", "evaluation_interval": "3s"}
    config["rule_files"] = [str(ALERTS)]
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": addresses[job["job_name"]]}]
    return config


@pytest.fixture(scope="module")
async def prometheus(stack: "RunningStack", tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    tmp_path = tmp_path_factory.mktemp("prometheus")
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config_for(stack)))
    address = f"{HOST}:{free_port()}"
    arguments = {"config.file": tmp_path / "prometheus.yml", "storage.tsdb.path": tmp_path / "data"}
    options = [f"--{name}={value}" for name, value in arguments.items()]
    with (tmp_path / "log").open("w") as log:
        server = await asyncio.create_subprocess_exec(
            BINARY or "", *options, f"--web.listen-address={address}", stdout=log, stderr=log
        )
    try:
        async with httpx2.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE) as http:
            asking = Prometheus(http)

            async def scrapes_all() -> bool:
                assert server.returncode is None, (tmp_path / "log").read_text()
                return await asking.is_ready() and len(await asking.query("up == 1")) == 2 * len(SERVICES)

            assert await within(PATIENCE, scrapes_all, 0.2), (tmp_path / "log").read_text()
            yield asking
    finally:
        server.terminate()
        await server.wait()


async def test_what_dashboards_and_rules_ask_for_is_there(alice: "Person", prometheus: Prometheus) -> None:
    task = await alice.create_task()
    await alice.sees_versions_audited(task, 1)
    await alice.is_notified(1)

    async def rules_were_evaluated() -> bool:
        found = await prometheus.query("job:taskwire_http_slow:ratio_rate5m")
        return {"task-api", "audit-worker"} <= {one["metric"]["job"] for one in found}

    assert await within(PATIENCE, rules_were_evaluated, 0.5), "no rate of requests after two scrapes"
    missing = list[str]()

    async def nothing_is_missing() -> bool:
        # What counts once it is done, as sidecars do, is there a scrape later; and a page may take longer than a
        # scrape waits.
        missing[:] = [one async for one in _missing(prometheus)]
        return not missing

    assert await within(PATIENCE, nothing_is_missing, 0.5), missing
    for query in asked():
        await prometheus.query(query.expr)


async def _missing(prometheus: Prometheus) -> AsyncIterator[str]:
    exposed = set(await prometheus.get("metadata")) | OF_OTHERS | recorded().keys()
    for query in asked():
        for selector in query.selectors():
            if not {selector.metric, family_of(selector.metric)} & exposed:
                yield f"{query.where}: nobody exposes {selector.metric}"
            for name in LABELS_THAT_NO_CALLER_MAKES & selector.matchers.keys():
                label = f'{name}=~"{selector.matchers[name]}"'
                if not await prometheus.query(f"{selector.metric}{{{label}}}"):
                    yield f"{query.where}: no {label}"


def family_of(metric: str) -> str:
    """Give the name that the parts of a histogram share."""
    return metric.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")


async def test_every_rule_is_evaluated_without_an_error(prometheus: Prometheus) -> None:
    async def health() -> set[str]:
        groups = (await prometheus.get("rules"))["groups"]
        found = {rule["health"] for group in groups for rule in group["rules"]}
        assert sum(len(group["rules"]) for group in groups) == len(rules())
        return found

    async def all_were() -> bool:
        return "unknown" not in await health()

    assert await within(PATIENCE, all_were, 0.2)
    assert await health() == {"ok"}
