"""Every alert says what is wrong in words and figures, has a page, and fires when it should and not otherwise."""

import shutil
import subprocess
from functools import cache

import pytest
import yaml
from tests.observability.queries import ALERTS, DEPLOYED, PROMETHEUS, rules

from devstack.layout import REPOSITORY

CASES = REPOSITORY / "tests" / "observability" / "alerts_test.yml"
PROMTOOL = shutil.which("promtool")
of_alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
by_name = pytest.mark.parametrize("name", sorted(of_alerts))
promtool = pytest.mark.skipif(
    PROMTOOL is None,
    reason="ALERTS NOT TESTED: promtool is not installed (Debian and Ubuntu: apt-get install prometheus)",
)


@by_name
def test_an_alert_says_how_bad_it_is_and_what_is_wrong(name: str) -> None:
    rule = of_alerts[name]
    labels, annotations = rule["labels"], rule["annotations"]
    assert name.startswith("Taskwire")
    assert labels.keys() == {"severity"}
    assert labels["severity"] in {"critical", "warning"}
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    assert annotations["runbook_url"] == f"{{{{ $externalLabels.runbooks }}}}/{name}.md"
    assert len(annotations["summary"]) < len(annotations["description"])


@cache
def cases() -> list[dict[str, list[dict[str, object]]]]:
    """Give the cases that promtool tries."""
    found: list[dict[str, list[dict[str, object]]]] = yaml.safe_load(CASES.read_text())["tests"]
    return found


@by_name
def test_an_alert_is_tested(name: str) -> None:
    told = {(one["alertname"], bool(one["exp_alerts"])) for case in cases() for one in case.get("alert_rule_test", [])}
    assert {(name, True), (name, False)} <= told, "it needs a case in which it fires and one in which it does not"


@promtool
def test_the_files_are_what_prometheus_reads() -> None:
    for kind, path in (("rules", ALERTS), ("config", PROMETHEUS)):
        checked = subprocess.run([PROMTOOL or "", "check", kind, path], capture_output=True, text=True, timeout=600)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@promtool
def test_alerts_fire_when_they_should_and_not_otherwise() -> None:
    tested = subprocess.run([PROMTOOL or "", "test", "rules", CASES], capture_output=True, text=True, timeout=600)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_collector_limits_its_memory_first_and_batches_last() -> None:
    config = yaml.safe_load((DEPLOYED / "collector" / "config.yaml").read_text())
    (pipeline,) = config["service"]["pipelines"].values()
    assert pipeline["processors"] == ["memory_limiter", "attributes/secrets", "batch"]
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == config[kind].keys(), "what is configured is used, and the other way round"
