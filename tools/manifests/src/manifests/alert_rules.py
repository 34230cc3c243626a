"""The alerts of deploy/observability in the shape that the Prometheus operator reads.

Kustomize cannot put one file into a field of another, so this does; a test compares the two.
"""

from pathlib import Path
from typing import Final

RULES: Final = Path("deploy/observability/prometheus/alerts.yml")
WRITTEN: Final = Path("deploy/k8s/components/prometheus-operator/alerts.yaml")
_HEAD: Final = f"""\
# Written by `make dashboards` from {RULES}: change it there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: taskwire
spec:
"""


def as_object(rules: str) -> str:
    """Give a PrometheusRule with these rules, word for word and with their comments."""
    return _HEAD + "".join(f"  {line}" if line.strip() else line for line in rules.splitlines(keepends=True))


def write(repository: Path) -> None:
    """Write the object beside its component."""
    (repository / WRITTEN).write_text(as_object((repository / RULES).read_text(encoding="utf-8")), encoding="utf-8")
