"""docker-compose.yml and the Dockerfile as they are written: what must hold before any container is started."""

import re
import tomllib
from typing import Any

import pytest
import yaml

from containers.composition import compose_services
from containers.environment import required_variables
from containers.images import COMPOSE_FILE, DOCKERFILE, base_images, server_image, service_images
from devstack.jars import KAFKA
from devstack.kafka import TOPICS
from devstack.layout import REPOSITORY, Ports
from devstack.postgres import MAJOR
from devstack.services import DEAD_LETTER_BYTES, SERVICES, Service, Tokens
from devstack.sidecar import sidecar_command

ALL = compose_services()
OURS = {image.name for image in service_images()}
ONE_SHOTS = {"databases", "topics", *(f"{service.name}-migrations" for service in SERVICES)}
SECRET = re.compile(r"SECRET|PASSWORD|TOKEN$")


def waits_for(name: str) -> dict[str, str]:
    needed: dict[str, dict[str, str]] = yaml.safe_load(COMPOSE_FILE.read_text())["services"][name].get("depends_on", {})
    return {other: condition["condition"] for other, condition in needed.items()}


def test_no_secret_is_in_the_file_and_none_has_a_default() -> None:
    for name, service in ALL.items():
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable):
                assert re.fullmatch(r"\$\{\w+:\?is not set, make compose-env makes it\}", value), f"{name}: {variable}"
    assert not re.findall(r"://[^$\s]*:[^$\s]+@", COMPOSE_FILE.read_text())


def test_each_pair_has_secrets_of_its_own() -> None:
    for kind in ("DAPR_API_TOKEN", "APP_API_TOKEN"):
        given = {service.name: str(ALL[service.name]["environment"][kind]) for service in SERVICES}
        assert len(set(given.values())) == len(SERVICES)
        assert all(ALL[service.sidecar]["environment"][kind] == given[service.name] for service in SERVICES)
    assert len(required_variables()) == len(set(required_variables())) > len(SERVICES)


def test_every_port_is_published_on_the_loopback_address_alone() -> None:
    published = [port for service in ALL.values() for port in service.get("ports", [])]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_no_image_is_the_latest_and_ours_have_the_version_of_their_service() -> None:
    images = {service["image"] for service in ALL.values()}
    assert [image for image in images if not re.search(r":v?\d+\.\d+", image)] == []
    assert {image for image in images if image.startswith("taskwire/")} == OURS


def test_nothing_is_asked_for_outside_by_what_watches() -> None:
    """Where there is no internet, Grafana would wait for it before it answers."""
    told = ALL["grafana"]["environment"]
    assert told["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    switched_off = ("REPORTING_ENABLED", "CHECK_FOR_UPDATES", "CHECK_FOR_PLUGIN_UPDATES")
    assert {told[f"GF_ANALYTICS_{name}"] for name in switched_off} == {"false"}


def test_the_servers_are_those_that_make_run_starts() -> None:
    dapr = re.search(r"github.com/dapr/dapr v(\S+)", (REPOSITORY / "tools/daprd/go.mod").read_text())
    assert dapr is not None
    assert server_image("daprio/daprd") == f"daprio/daprd:{dapr[1]}"
    assert server_image("apache/kafka") == f"apache/kafka:{KAFKA.rpartition(':')[2]}"
    assert server_image("postgres").startswith(f"postgres:{MAJOR}.")


def test_the_image_is_built_with_the_uv_that_make_prepare_takes() -> None:
    pinned = re.search(r"^uv==(\S+)", (REPOSITORY / "tools/bootstrap/requirements.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert base_images()["uv"].endswith(f":{pinned[1]}")


def test_the_tools_of_kafka_are_of_the_version_of_the_broker() -> None:
    lock = tomllib.loads((REPOSITORY / "tools/containers/src/containers/kafka-tools.lock.toml").read_text())
    assert {one["version"] for one in lock["dependencies"]} == {KAFKA.rpartition(":")[2]}


def test_our_images_are_built_here_and_never_pulled_under_a_name_that_others_may_own() -> None:
    ours = {name: service for name, service in ALL.items() if service["image"].startswith("taskwire/")}
    assert set(ours) == {part for one in SERVICES for part in (one.name, f"{one.name}-migrations")}
    told: Any = ours
    assert {name for name, service in told.items() if service.get("pull_policy") != "never"} == set()
    for image in service_images():
        built = told[image.service]["build"]
        assert built["args"] == {"SERVICE": image.service, "VERSION": image.version}
        assert REPOSITORY / built["context"] / built["dockerfile"] == DOCKERFILE


def test_a_pair_is_restarted_after_its_pod_and_with_it() -> None:
    """Else `docker compose restart` starts the two while there is no network to join."""
    told: Any = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
    for service in SERVICES:
        for part in (service.name, service.sidecar):
            assert told[part]["depends_on"][f"{service.name}-pod"] == {"condition": "service_started", "restart": True}


def test_an_upgrade_of_a_service_leaves_its_pod_as_it_is() -> None:
    assert {ALL[f"{service.name}-pod"]["image"] for service in SERVICES} == {base_images()["python"]}


def test_a_migration_may_take_as_long_as_it_takes() -> None:
    """The health check of the image asks for a service, which a migration is not."""
    told: Any = ALL
    assert [told[f"{service.name}-migrations"]["healthcheck"] for service in SERVICES] == [{"disable": True}] * 3


def test_a_service_starts_when_its_schema_is_there_and_a_schema_when_its_database_is() -> None:
    assert waits_for("databases") == {"postgres": "service_healthy"}
    assert waits_for("topics") == {"kafka": "service_healthy"}
    for service in SERVICES:
        migrations = f"{service.name}-migrations"
        assert waits_for(migrations) == {"databases": "service_completed_successfully"}
        assert waits_for(service.name)[migrations] == "service_completed_successfully"
        assert waits_for(service.sidecar)["topics"] == "service_completed_successfully"
        assert ALL[migrations]["environment"] == ALL[service.name]["environment"]


def test_what_delivers_ends_before_who_takes_it_and_who_publishes_before_what_it_publishes_through() -> None:
    """Compose ends a container before those that it depends on (docs/graceful-stop.md)."""
    for service in SERVICES:
        first, last = (service.sidecar, service.name) if service.consumes else (service.name, service.sidecar)
        assert last in waits_for(first)
        assert first not in waits_for(last)


def test_what_is_ours_and_the_sidecars_can_write_nowhere_but_in_tmp_and_has_no_capability() -> None:
    pairs = [name for service in SERVICES for name in (service.name, service.sidecar, f"{service.name}-pod")]
    for name in [*pairs, *(f"{service.name}-migrations" for service in SERVICES)]:
        hardened: Any = ALL[name]
        assert hardened["read_only"] is True, name
        assert hardened["tmpfs"] == ["/tmp"], name  # noqa: S108
        assert "cap_add" not in hardened, name


def test_no_container_has_a_capability_that_it_does_not_need_or_can_gain_one() -> None:
    told: Any = ALL
    for name, service in told.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    assert [name for name, service in told.items() if "cap_add" in service] == ["postgres"]


def test_every_container_has_a_limit_of_memory_and_is_started_again_when_it_should_stay() -> None:
    for name, service in ALL.items():
        told: Any = service
        assert ("restart" in told) == (name not in ONE_SHOTS), name
        assert "mem_limit" in told, name


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_sidecar_is_told_what_that_of_make_run_is(service: Service) -> None:
    told = dict(word.removeprefix("--").partition("=")[::2] for word in ALL[service.sidecar]["command"][1:])
    native = sidecar_command(service, REPOSITORY, Ports(8000), {}, Tokens.new())
    words = [*native.argv[1:-1]]
    theirs = dict(zip((word.removeprefix("--") for word in words[::2]), words[1::2], strict=True))
    of_the_place = re.compile(r"port|address|resources-path|config$|^app-id$")
    assert {name: value for name, value in told.items() if not of_the_place.search(name)} == {
        **{name: value for name, value in theirs.items() if not of_the_place.search(name)},
        "log-as-json": "",
    }
    assert told["app-id"] == service.app_id
    ours = {name for name in ALL[service.sidecar]["environment"] if name.startswith("TASKWIRE_")}
    assert ours == {name for name in native.environment if name.startswith("TASKWIRE_KAFKA")}
    assert "./components:/components:ro" in ALL[service.sidecar]["volumes"]


def test_the_topics_are_those_of_the_contract() -> None:
    script = (REPOSITORY / "deploy/compose/topics.sh").read_text()
    made = re.findall(r"^create (\S+) (\d+)(?: max\.message\.bytes=(\d+))? &", script, re.MULTILINE)
    assert {name: int(partitions) for name, partitions, _ in made} == dict(TOPICS)
    assert {largest for name, _, largest in made if name.endswith(".dead-letters")} == {str(DEAD_LETTER_BYTES)}


def test_each_service_has_a_database_and_the_variable_of_its_password() -> None:
    script = (REPOSITORY / "deploy/compose/databases.sh").read_text()
    made = re.search(r"^for role in (.+); do$", script, re.MULTILINE)
    assert made is not None
    assert made[1].split() == [service.module for service in SERVICES]
    for service in SERVICES:
        assert f"{service.module.upper()}_DATABASE_PASSWORD" in ALL["databases"]["environment"]


def test_the_image_runs_as_a_number_and_gets_its_signals_itself() -> None:
    final = DOCKERFILE.read_text().rpartition("\nFROM ")[2]
    assert "\nUSER 10001:10001\n" in final
    assert re.search(r'^ENTRYPOINT \["', final, re.MULTILINE)
    assert re.search(r'CMD \["python", "-I"', final)
    assert "uv " not in final
    for label in ("title", "version", "revision", "source"):
        assert f"org.opencontainers.image.{label}=" in final


def test_no_test_no_secret_and_no_environment_of_ours_goes_into_a_build() -> None:
    first, *rest = (REPOSITORY / ".dockerignore").read_text().splitlines()[1:]
    assert first == "*"
    assert {line for line in rest if line.startswith("!")} == {"!pyproject.toml", "!uv.lock", "!libs", "!services"}
    assert {"**/.*", "**/tests"} <= set(rest)
