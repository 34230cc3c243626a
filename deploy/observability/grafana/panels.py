"""What dashboards are made of, and how they become the JSON that Grafana reads; the library knows its form."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from string import ascii_uppercase
from typing import Final, Literal, TypeAlias

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardLinkType, DataSourceRef, Threshold, ThresholdsMode

_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="prometheus")
OF_USERS: Final = 'route!~"/health/.*|/metrics|/dapr/.*|/events/.*"'
"""Matches requests that are no probe and no delivery."""
REQUESTS: Final = "taskwire_http_request_duration_seconds"
"""The histogram of all requests."""
_HEIGHT, _LOW = 8, 4

Unit: TypeAlias = Literal["s", "short", "percentunit", "reqps", "ops", "bytes", "dateTimeFromNow"]


@dataclass(frozen=True)
class Query:
    """One line of a chart.

    Attributes:
        expr: PromQL.
        legend: Its name, with labels in braces.
    """

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Chart:
    """Lines over time."""

    title: str
    unit: Unit
    queries: Sequence[Query]
    description: str = ""
    width: int = 12


@dataclass(frozen=True)
class Figure:
    """One number, red from a threshold on."""

    title: str
    unit: Unit
    expr: str
    red_from: float
    description: str = ""
    width: int = 4


@dataclass(frozen=True)
class Board:
    """A dashboard: rows of panels, from top to bottom.

    Attributes:
        uid: Part of its address; never changes.
        title: Its name.
        rows: Each with a title.
        of_one_service: Whether one chooses a service (`$job`).
    """

    uid: str
    title: str
    rows: Sequence[tuple[str, Sequence[Chart | Figure]]]
    of_one_service: bool = False


def rate(metric: str, by: str, matchers: str = "") -> str:
    """Make the rate of a counter, summed up by labels."""
    return f"sum by ({by}) (rate({metric}{{{matchers}}}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str, matchers: str = "") -> str:
    """Make the quantile of a histogram, by labels."""
    inner = rate(f"{metric}_bucket", f"{by}, le" if by else "le", matchers)
    return f"histogram_quantile({share}, {inner})"


def render(board: Board) -> str:
    """Make the JSON that Grafana reads."""
    built = dashboard.Dashboard(board.title).uid(board.uid).tags(["taskwire"]).refresh("30s").time("now-1h", "now")
    built = built.timezone("utc").readonly().link(_to_the_others())
    if board.of_one_service:
        built = built.with_variable(
            dashboard.CustomVariable("job").label("service").values("task-api,audit-worker,notifier")
        )
    ids = count(1)
    for title, panels in board.rows:
        built = built.with_row(dashboard.Row(title).id(next(ids)))
        for panel in panels:
            built = built.with_panel((_figure(panel) if isinstance(panel, Figure) else _chart(panel)).id(next(ids)))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _to_the_others() -> dashboard.DashboardLink:
    """From what users feel to where it comes from: the same time, another dashboard."""
    link = dashboard.DashboardLink("Taskwire").type(DashboardLinkType.DASHBOARDS).tags(["taskwire"])
    return link.keep_time(keep_time=True)


def _query(query: Query, place: int = 0) -> prometheus.Dataquery:
    asked = prometheus.Dataquery().datasource(_SOURCE).ref_id(ascii_uppercase[place]).expr(query.expr)
    return asked.legend_format(query.legend or "__auto")


def _chart(chart: Chart) -> timeseries.Panel:
    panel = timeseries.Panel().title(chart.title).description(chart.description).datasource(_SOURCE)
    for place, query in enumerate(chart.queries):
        panel = panel.with_target(_query(query, place))
    return panel.unit(chart.unit).min(0).span(chart.width).height(_HEIGHT)


def _figure(figure: Figure) -> stat.Panel:
    steps = [Threshold(value=None, color="green"), Threshold(value=figure.red_from, color="red")]
    panel = stat.Panel().title(figure.title).description(figure.description).datasource(_SOURCE)
    panel = panel.with_target(_query(Query(figure.expr))).unit(figure.unit)
    thresholds = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
    return panel.thresholds(thresholds).span(figure.width).height(_LOW)
