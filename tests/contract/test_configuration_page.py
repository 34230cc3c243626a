"""docs/reference/configuration.md names every variable that a service reads, with the default it has."""

import re
from pathlib import Path
from typing import Final

import pytest
from pydantic.fields import FieldInfo

from audit_worker.settings import AuditWorkerSettings
from chassis.settings import ENV_PREFIX, ServiceSettings
from notifier.settings import NotifierSettings
from task_api.settings import TaskApiSettings

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"
ROW: Final = re.compile(r"^\| `(?P<name>\w+)` \| (?P<of>[^|]+) \| (?P<default>[^|]+) \| .+ \|$", re.MULTILINE)
ROWS: Final = {row["name"]: (row["of"], row["default"]) for row in ROW.finditer(PAGE.read_text(encoding="utf-8"))}
SERVICES: Final[dict[str, type[ServiceSettings]]] = {
    "task-api": TaskApiSettings,
    "audit-worker": AuditWorkerSettings,
    "notifier": NotifierSettings,
}
OF: Final = {"all": {*SERVICES}, "consumers": {"audit-worker", "notifier"}, "task-api": {"task-api"}}
NONE: Final = "\N{EN DASH}"
# Read by OpenTelemetry itself.
FOREIGN: Final = {"OTEL_EXPORTER_OTLP_ENDPOINT"}


def variables_of(service: str) -> dict[str, FieldInfo]:
    fields = SERVICES[service].model_fields
    return {str(field.validation_alias or f"{ENV_PREFIX}{name.upper()}"): field for name, field in fields.items()}


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None or default in ((), [], {}):
        return NONE
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_of_a_service_is_there_with_its_default(service: str) -> None:
    described = {name: default for name, (of, default) in ROWS.items() if service in OF.get(of, set())}
    assert {name: default_of(field) for name, field in variables_of(service).items()} == {
        name: default for name, default in described.items() if name not in FOREIGN
    }


def test_no_variable_is_there_twice() -> None:
    assert len(ROWS) == len(ROW.findall(PAGE.read_text(encoding="utf-8")))
