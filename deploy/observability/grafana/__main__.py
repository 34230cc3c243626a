"""Grafana's dashboards, as code: `make dashboards` writes `dashboards/*.json`.

What a panel asks is one line in the modules beside this one. The metrics are told in docs/reference/metrics.md, and
tests see to it that every query asks for something that is really exposed.
"""

from pathlib import Path
from typing import Final

from deploy.observability.grafana.events import EVENTS
from deploy.observability.grafana.overview import OVERVIEW
from deploy.observability.grafana.panels import render
from deploy.observability.grafana.services import SERVICES

DIRECTORY: Final = Path(__file__).parent / "dashboards"
BOARDS: Final = (OVERVIEW, EVENTS, SERVICES)

if __name__ == "__main__":
    for board in BOARDS:
        (DIRECTORY / f"{board.uid}.json").write_text(render(board))
