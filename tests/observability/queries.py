"""What the dashboards and rules ask Prometheus."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Final, TypedDict

import promql_parser
import yaml

from devstack.layout import REPOSITORY

DEPLOYED: Final = REPOSITORY / "deploy" / "observability"
ALERTS: Final = DEPLOYED / "prometheus" / "alerts.yml"
PROMETHEUS: Final = DEPLOYED / "prometheus" / "prometheus.yml"
BOARDS: Final = DEPLOYED / "grafana" / "dashboards"
# What Grafana puts in the place of its variables.
_VARIABLES: Final = {"$__rate_interval": "1m", "$job": "task-api"}
_IN_BRACES: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class Asked:
    """One query.

    Attributes:
        where: Of which panel or rule.
        expr: PromQL, without variables.
        legend: Labels that its name in a chart, or the text of its alert, is made of.
    """

    where: str
    expr: str
    legend: frozenset[str] = frozenset()

    def selectors(self) -> "list[Selector]":
        """Every metric that is asked for, with the labels that are compared."""
        found: list[Selector] = []

        def visit(node: promql_parser.Expr) -> None:
            if isinstance(node, promql_parser.MatrixSelector):
                node = node.vector_selector  # which the library does not visit
            if isinstance(node, promql_parser.VectorSelector):
                matchers = {one.name: one.value for one in node.matchers.matchers}
                found.append(Selector(node.name or "", matchers))

        promql_parser.walk(promql_parser.parse(self.expr), visit)
        return found

    def grouped(self) -> set[str]:
        """Every label that something is added up or joined by."""
        found: set[str] = set()

        def visit(node: promql_parser.Expr) -> None:
            if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
                found.update(node.modifier.labels)
            if isinstance(node, promql_parser.BinaryExpr) and node.modifier is not None:
                matching = node.modifier.matching
                found.update([*(matching.labels if matching else ()), *(node.modifier.group_labels or ())])

        promql_parser.walk(promql_parser.parse(self.expr), visit)
        return found


@dataclass(frozen=True)
class Selector:
    """A metric and what its labels must be."""

    metric: str
    matchers: dict[str, str] = field(default_factory=dict)


class Rule(TypedDict, total=False):
    """One rule as it is in the file."""

    record: str
    alert: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]


@cache
def rules() -> list[Rule]:
    """Give every rule of the file."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


@cache
def recorded() -> dict[str, Asked]:
    """Give the metrics that rules make, and of what."""
    return {rule["record"]: Asked(rule["record"], rule["expr"]) for rule in rules() if "record" in rule}


def asked() -> list[Asked]:
    """Give every query there is."""
    return [*recorded().values(), *_of_alerts(), *_of_boards()]


def queried() -> set[str]:
    """Give the name of every metric that is asked for."""
    return {selector.metric for query in asked() for selector in query.selectors()}


def _of_alerts() -> Iterator[Asked]:
    for rule in rules():
        if "alert" in rule:
            texts = " ".join(rule["annotations"].values())
            yield Asked(rule["alert"], rule["expr"], frozenset(re.findall(r"\$labels\.(\w+)", texts)))


def _of_boards() -> Iterator[Asked]:
    for path in sorted(BOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                expr = target["expr"]
                for variable, value in _VARIABLES.items():
                    expr = expr.replace(variable, value)
                legend = frozenset(_IN_BRACES.findall(target["legendFormat"]))
                yield Asked(f"{path.stem}: {panel['title']}", expr, legend)
