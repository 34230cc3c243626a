"""Every query of a dashboard or a rule asks for something that is documented, and so, by another test, exposed.

`tests/e2e/test_prometheus.py` asks all of them of a real Prometheus.
"""

import re

import pytest
import yaml
from deploy.observability.grafana.__main__ import BOARDS as SOURCES
from deploy.observability.grafana.panels import Board, render
from tests.observability.queries import BOARDS, PROMETHEUS, Asked, asked, queried, recorded
from tests.observability.reference import Metric, documented, process_metrics
from tests.observability.runbook import named

TARGETS = frozenset({"job", "instance"})
OF_PROMETHEUS = {"up": frozenset[str](), "ALERTS": frozenset({"alertname", "alertstate", "severity"})}


def labels_of(metric: str) -> frozenset[str] | None:
    """Tell which labels a metric has, besides those of its target; None if there is no such metric."""
    if metric in OF_PROMETHEUS:
        return OF_PROMETHEUS[metric]
    if metric in process_metrics():
        return frozenset()
    if made := recorded().get(metric):
        return frozenset(made.grouped())
    for one in documented():
        if metric in one.series:
            return one.labels | ({"le"} if metric.endswith("_bucket") else frozenset())
    return None


@pytest.mark.parametrize("query", asked(), ids=lambda query: query.where)
def test_a_query_asks_for_metrics_and_labels_that_there_are(query: Asked) -> None:
    known: set[str] = set()
    for selector in query.selectors():
        labels = labels_of(selector.metric)
        assert labels is not None, f"there is no {selector.metric}"
        assert selector.matchers.keys() <= labels | TARGETS, f"{selector.metric} has no such label"
        known |= labels | TARGETS
    assert query.selectors(), "it asks for nothing"
    assert query.grouped() <= known
    assert query.legend <= (query.grouped() or known | TARGETS)


@pytest.mark.parametrize("query", asked(), ids=lambda query: query.where)
def test_a_query_names_jobs_that_are_scraped(query: Asked) -> None:
    jobs = {job["job_name"] for job in yaml.safe_load(PROMETHEUS.read_text())["scrape_configs"]}
    for selector in query.selectors():
        if "job" not in selector.matchers:
            continue
        assert set(selector.matchers["job"].split("|")) <= jobs


@pytest.mark.parametrize("metric", documented(), ids=lambda metric: metric.name)
def test_every_metric_is_looked_at(metric: Metric) -> None:
    """On a dashboard or by an alert: what nobody sees is not worth its memory, or a chart is missing."""
    assert metric.series & queried()


def test_the_volumes_that_are_watched_are_those_that_operators_make_for_our_manifests() -> None:
    claims = {f"{cluster}-1" for cluster in named("cluster")}
    claims |= {f"data-0-{kafka}-{pool}-0" for kafka in named("kafka") for pool in named("kafkanodepool")}
    (volumes,) = (query for query in asked() if query.where == "TaskwireVolumeFilling")
    for selector in volumes.selectors():
        watched = re.compile(selector.matchers["persistentvolumeclaim"])
        assert {claim for claim in claims if watched.fullmatch(claim)} == claims != set()
        assert not watched.fullmatch("prometheus-data-0")


@pytest.mark.parametrize("board", SOURCES, ids=lambda board: board.uid)
def test_the_committed_dashboards_are_those_of_the_source(board: Board) -> None:
    assert (BOARDS / f"{board.uid}.json").read_text() == render(board), "run `make dashboards`"


def test_every_dashboard_is_one_of_the_source() -> None:
    assert {path.stem for path in BOARDS.iterdir()} == {board.uid for board in SOURCES}
