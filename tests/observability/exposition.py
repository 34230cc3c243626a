"""What a metrics page really has."""

from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

_OF_PROMETHEUS: Final = {"le", "quantile"}


@dataclass(frozen=True)
class Exposed:
    """One family of a page; labels are of the series it has, None when it has none yet."""

    name: str
    type: str
    labels: frozenset[str] | None


def read(page: str) -> dict[str, Exposed]:
    """Read a page in Prometheus's text format."""
    found = {}
    names = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE ")}
    for family in text_string_to_metric_families(page):
        # The parser takes `_total` off a counter, and leaves it to one that never had it.
        name = f"{family.name}_total" if family.type == "counter" and family.name not in names else family.name
        labels = [frozenset(sample.labels) - _OF_PROMETHEUS for sample in family.samples]
        found[name] = Exposed(name, family.type, frozenset[str]().union(*labels) if labels else None)
    return found


def series(page: str) -> set[str]:
    """Give every series of ours, without its value."""
    return {line.rpartition(" ")[0] for line in page.splitlines() if line.startswith("taskwire_")}
