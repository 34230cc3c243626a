"""What docs/reference/metrics.md promises."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from devstack.layout import REPOSITORY

PAGE: Final = REPOSITORY / "docs" / "reference" / "metrics.md"
SERVICES: Final = ("task-api", "audit-worker", "notifier")
_WHO: Final = {
    "all": SERVICES,
    "consumers": ("audit-worker", "notifier"),
    "task-api": ("task-api",),
    "audit-worker": ("audit-worker",),
    "daprd of task-api": ("daprd-task-api",),
    "daprd of consumers": ("daprd-audit-worker", "daprd-notifier"),
    "kubelet": (),
}
_ROW: Final = re.compile(r"^\| `(?P<name>\w+)` \| (?P<type>\w+) \| (?P<labels>[^|]+) \| [^|]+ \| (?P<who>[^|]+) \|")
_SUFFIXES: Final = {"histogram": ("_bucket", "_sum", "_count")}


@dataclass(frozen=True)
class Metric:
    """One row."""

    name: str
    type: str
    labels: frozenset[str]
    parts: tuple[str, ...]

    @property
    def series(self) -> set[str]:
        """The names that queries know it by."""
        return {self.name + suffix for suffix in _SUFFIXES.get(self.type, ("",))}


@cache
def documented() -> list[Metric]:
    """Read the page."""
    rows = filter(None, map(_ROW.match, PAGE.read_text().splitlines()))
    return [
        Metric(row["name"], row["type"], frozenset(re.findall(r"`(\w+)`", row["labels"])), _WHO[row["who"].strip()])
        for row in rows
    ]


@cache
def process_metrics() -> set[str]:
    """Those of the Python client that the page names."""
    (section,) = re.findall(r"^## Process$(.*?)^## ", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`(\w+[a-z])`", section))
