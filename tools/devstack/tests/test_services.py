from pathlib import Path

import pytest

from devstack.failures import ProvisionError
from devstack.layout import MAX_SERVICES, Ports
from devstack.services import SERVICES, Tokens, planned, read_dotenv, service_environment
from devstack.sidecar import sidecar_command

TASK_API = SERVICES[0]
PORTS = Ports(8000)


def test_settings_of_the_caller_reach_the_service() -> None:
    caller = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "TASKWIRE_LOG_LEVEL": "DEBUG"}

    environment = service_environment(TASK_API, PORTS, caller, {})

    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4318"
    assert environment["TASKWIRE_LOG_LEVEL"] == "DEBUG"


def test_what_the_stack_decides_wins_over_the_caller() -> None:
    caller = {"TASKWIRE_PORT": "1", "TASKWIRE_DATABASE_URL": "theirs", "TASKWIRE_ENVIRONMENT": "production"}

    environment = service_environment(TASK_API, PORTS, caller, {"TASKWIRE_DATABASE_URL": "ours"})

    assert environment["TASKWIRE_PORT"] == "8000"
    assert environment["TASKWIRE_DATABASE_URL"] == "ours"
    assert environment["TASKWIRE_ENVIRONMENT"] == "development"


def test_another_sidecars_settings_do_not_reach_ours() -> None:
    caller = {"DAPR_HTTP_ENDPOINT": "http://elsewhere:3500", "DAPR_API_TOKEN": "theirs"}

    environment = service_environment(TASK_API, PORTS, caller, Tokens("d", "a").environment())

    assert "DAPR_HTTP_ENDPOINT" not in environment
    assert environment["DAPR_API_TOKEN"] == "d"


def test_calls_on_this_machine_bypass_the_callers_proxy() -> None:
    environment = service_environment(TASK_API, PORTS, {"NO_PROXY": "intranet"}, {})

    assert environment["NO_PROXY"] == "intranet,127.0.0.1,localhost"
    assert environment["no_proxy"] == "127.0.0.1,localhost"


def test_a_dotenv_file_is_read_as_people_write_it(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(
        "# a comment\n\nTASKWIRE_LOG_LEVEL=DEBUG\nexport OTEL_SERVICE_NAME='quoted # kept'\n"
        'TASKWIRE_A="b=c"\nTASKWIRE_B=plain # why\nPATH=/evil\nnonsense\n'
    )

    assert read_dotenv(file) == {
        "TASKWIRE_LOG_LEVEL": "DEBUG",
        "OTEL_SERVICE_NAME": "quoted # kept",
        "TASKWIRE_A": "b=c",
        "TASKWIRE_B": "plain",
    }


def test_a_missing_dotenv_file_is_no_settings(tmp_path: Path) -> None:
    assert read_dotenv(tmp_path / ".env") == {}


def test_no_secret_is_on_the_sidecars_command_line() -> None:
    command = sidecar_command(TASK_API, Path("/daprd"), PORTS, {}, Tokens("dapr-secret", "app-secret"))

    assert "secret" not in " ".join(command.argv)
    assert command.environment["DAPR_API_TOKEN"] == "dapr-secret"
    assert command.environment["APP_API_TOKEN"] == "app-secret"
    assert command.environment["TASKWIRE_KAFKA_BROKERS"] == "127.0.0.1:8050"


def test_only_sidecars_of_consumers_may_publish_more_than_kafkas_default() -> None:
    limits = [
        sidecar_command(service, Path("/daprd"), PORTS, {}, Tokens("d", "a")).environment.get(
            "TASKWIRE_KAFKA_MAX_MESSAGE_BYTES"
        )
        for service in SERVICES
    ]

    assert limits == [None, "2097152", "2097152"]


def test_every_service_has_its_place_in_the_port_plan() -> None:
    assert [(service.app_id, service.index) for service in SERVICES] == [
        ("task-api", 0),
        ("audit-worker", 1),
        ("notifier", 2),
    ]


def test_one_replica_of_each_service_runs_unless_more_are_asked_for() -> None:
    assert list(planned({})) == list(SERVICES)


def test_a_further_replica_has_a_name_and_a_place_of_its_own_and_shares_the_rest() -> None:
    added = planned({"TASKWIRE_REPLICAS": "task-api=2, notifier=3"})[len(SERVICES) :]

    assert [(service.name, service.sidecar, service.app_id, service.index) for service in added] == [
        ("task-api-2", "daprd-task-api-2", "task-api", 3),
        ("notifier-2", "daprd-notifier-2", "notifier", 4),
        ("notifier-3", "daprd-notifier-3", "notifier", 5),
    ]
    assert [service.consumes for service in added] == [False, True, True]


@pytest.mark.parametrize(
    "wanted", ["task-api", "task-api=0", "task-api=-1", "task-api=x", "nobody=2", "task-api=2,task-api=2"]
)
def test_replicas_that_make_no_sense_are_refused(wanted: str) -> None:
    with pytest.raises(ProvisionError, match="TASKWIRE_REPLICAS is not usable"):
        planned({"TASKWIRE_REPLICAS": wanted})


def test_there_are_no_more_replicas_than_ports() -> None:
    assert len(planned({"TASKWIRE_REPLICAS": "task-api=8"})) == MAX_SERVICES
    with pytest.raises(ProvisionError, match=f"ports for {MAX_SERVICES} replicas"):
        planned({"TASKWIRE_REPLICAS": "task-api=7,notifier=3"})


def test_the_sidecar_reads_other_components_where_somebody_names_them() -> None:
    command = sidecar_command(TASK_API, Path("/daprd"), PORTS, {"TASKWIRE_COMPONENTS": "/else"}, Tokens("d", "a"))

    assert command.argv[command.argv.index("--resources-path") + 1] == "/else"
    assert command.argv[command.argv.index("--config") + 1] == "/else/configuration.yaml"


def test_an_app_is_called_once_at_a_time_and_a_publisher_keeps_its_sidecar_a_moment_longer() -> None:
    options = [sidecar_command(service, Path("/daprd"), PORTS, {}, Tokens("d", "a")).argv for service in SERVICES]

    assert ["--app-max-concurrency" in argv for argv in options] == [True, True, True]
    assert ["--dapr-block-shutdown-duration" in argv for argv in options] == [True, False, False]
