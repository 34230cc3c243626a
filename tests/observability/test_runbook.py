"""Each alert has a page, and what its commands name is there: targets, services, pods, containers, metrics, tables.

That the commands do what the page says was tried by hand, on a stack in which the cause was brought about.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from tests.observability.queries import rules
from tests.observability.reference import SERVICES, documented
from tests.observability.runbook import DIRECTORY, PAGES, Said, commands, compose, consoles, manifests, named

from chassis.migrations import upgrade
from devstack.layout import REPOSITORY, Ports
from devstack.services import SERVICES as NATIVE
from devstack.throwaway import DatabaseFactory

SECTIONS = ["## What it means", "## See it", "## Do", "## It is over when"]
POINTER = (
    "Commands are those of `make run`; [elsewhere](README.md#elsewhere) has them for docker compose and Kubernetes."
)
NAMESPACE = "taskwire"
PARTS = {"kafka", "postgres", *(service.name for service in NATIVE), *(service.sidecar for service in NATIVE)}
DATABASES = {service.module for service in NATIVE}
# What operators make of our objects: PostgreSQL's Service and pods, Kafka's pods; and the sidecar that Dapr injects.
OF_OPERATORS = {"postgres-rw": "postgres", "cnpg.io/cluster": "postgres", "strimzi.io/cluster": "kafka"}
INJECTED = "daprd"
WORDS_OF_OTHERS = {"too many clients", "idle in transaction", "not a task event"}

alerts = sorted(rule["alert"] for rule in rules() if "alert" in rule)
by_alert = pytest.mark.parametrize("name", alerts)


def every(program: str) -> pytest.MarkDecorator:
    """Try a test with each command of a program."""
    return pytest.mark.parametrize("said", commands(program), ids=lambda said: f"{said.page}: {said.text[:60]}")


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert {page.stem for page in PAGES} - {"README"} == set(alerts)


@by_alert
def test_a_page_says_the_four_things_and_where_other_commands_are(name: str) -> None:
    text = (DIRECTORY / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n\n{POINTER}\n")
    assert re.findall(r"^## .*$", text, re.MULTILINE) == SECTIONS
    assert consoles(name), "a page without a command helps nobody at night"


def test_the_list_of_pages_is_whole_and_says_how_bad_each_is() -> None:
    rows = re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \|", (DIRECTORY / "README.md").read_text(), re.MULTILINE)
    assert dict(rows) == {rule["alert"]: rule["labels"]["severity"] for rule in rules() if "alert" in rule}
    assert len(rows) == len(alerts)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_one_types_only_what_is_checked_here(page: Path) -> None:
    known = ("make ", "docker compose ", "kubectl ", "curl ")
    assert [said.text for said in consoles(page.stem) if not said.text.startswith(known)] == []


@every("make")
def test_make_has_the_target_and_the_stack_the_part(said: Said) -> None:
    targets = re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert next(word for word in said.words[1:] if not word.startswith("-")) in targets
    given = dict(word.split("=", 1) for word in said.words if "=" in word)
    assert given.get("PART", "kafka") in PARTS
    assert given.get("SERVICE", "kafka") in PARTS


@every("docker compose")
def test_compose_has_the_services_and_their_programs_the_names(said: Said) -> None:
    verb, *names = (word for word in said.words[2:] if not word.startswith("-"))
    assert verb in {"ps", "logs", "up", "stop", "start", "restart", "exec"}
    assert set(names[:1] if verb == "exec" else names) <= compose()
    if verb == "exec" and names[0] == "postgres":
        assert names[1] == "psql"
        assert names[2] in DATABASES
    assert set(said.after("--group")) <= set(SERVICES)


@every("kubectl")
def test_the_manifests_have_what_kubectl_is_asked_for(said: Said) -> None:
    assert said.words[1:3] == ["-n", NAMESPACE]
    assert NAMESPACE in named("namespace")
    assert list(_not_there(said)) == []


def _not_there(said: Said) -> Iterator[str]:
    """Name everything of a command that no manifest and no operator makes."""
    workloads = [one for one in manifests() if one.containers]
    labels = dict(pair.split("=") for selector in said.after("--selector") for pair in selector.split(","))
    for label, value in labels.items():
        if OF_OPERATORS.get(label) != value and not any(one.pod_labels.get(label) == value for one in workloads):
            yield f"label {label}={value}"
    names = re.findall(r"\b(deployment|service|statefulset|scaledobject)[/ ]([a-z-]+)", said.text)
    names += [("statefulset", name) for name in re.findall(r" exec ([a-z-]+)-0 ", said.text)]
    for kind, name in names:
        if name not in named(kind) | OF_OPERATORS.keys():
            yield f"{kind} {name}"
    spoken_of = {name for _, name in names}
    containers = {INJECTED, *(OF_OPERATORS[name] for name in spoken_of & OF_OPERATORS.keys())}
    for one in workloads:
        if one.metadata.name in spoken_of or (labels and labels.items() <= one.pod_labels.items()):
            containers |= one.containers
    yield from (f"container {container}" for container in said.after("-c") if container not in containers)


@every("curl")
def test_there_is_a_route_where_curl_asks(said: Said) -> None:
    ports = Ports(8000)
    services = {ports.app(service.index): service.app_id for service in NATIVE}
    for address in re.findall(r"http://\S+?(?=[\"\s]|$)", said.text):
        url = urlsplit(address)
        service = services[url.port or 0]
        paths = json.loads((REPOSITORY / "specs" / "openapi" / f"{service}.json").read_text())["paths"]
        assert url.path in {*paths, "/metrics", "/health/ready"}, f"{service} has no such route"


@every("curl")
def test_what_is_looked_for_on_a_page_of_metrics_is_there(said: Said) -> None:
    for pattern in re.findall(r"grep (?:-E )?'(.*)'", said.text):
        lines = [_line(name, one.labels) for one in documented() for name in one.series]
        parts = pattern.split("|") if "(" not in pattern else [pattern]
        for part in parts:
            looked_for = re.sub(r"(call|status)=\"[\w-]+\"?", r"\1=", part)
            assert any(re.search(looked_for, line) for line in lines), f"nothing has {part}"


def _line(name: str, labels: frozenset[str]) -> str:
    return f"{name}{{{','.join(f'{label}=' for label in sorted(labels))}}} 1"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_metrics_on_a_page_are_documented(page: Path) -> None:
    text = page.read_text()
    known = {name for one in documented() for name in {*one.series, one.name}}
    named_here = set(re.findall(r"`(?:sum\()?(taskwire_\w+)", text)) | set(
        re.findall(r"^(taskwire_\w+)[{ ]", text, re.MULTILINE)
    )
    assert named_here <= known


def test_every_breaker_has_a_row() -> None:
    sources = [path for part in ("libs", "services") for path in (REPOSITORY / part).glob("*/src/**/*.py")]
    made = {name for path in sources for name in re.findall(r"CallPolicy\(\s*\"([\w-]+)\"", path.read_text())}
    rows = re.findall(r"^\| `([\w-]+)` \|", (DIRECTORY / "TaskwireBreakerOpen.md").read_text(), re.MULTILINE)
    assert made == set(rows) - {"call"}


def test_what_a_log_is_said_to_have_is_what_we_write() -> None:
    sources = "".join(
        path.read_text() for part in ("libs", "services") for path in (REPOSITORY / part).glob("*/src/**/*.py")
    )
    for page in PAGES:
        for sentence in re.findall(r"`([a-z][a-z ]+ [a-z ]+)`", page.read_text()):
            if not sentence.startswith(("make ", "kubectl ", "docker ")) and sentence not in WORDS_OF_OTHERS:
                assert sentence in sources, f"{page.stem}: nobody writes {sentence!r}"


@pytest.mark.parametrize("service", ["task-api", "audit-worker"])
async def test_postgresql_understands_what_it_is_asked(service: str, databases: DatabaseFactory) -> None:
    asked = [said for said in commands("make") if "SQL=" in said.text and f"SERVICE={service}" in said.words]
    assert asked
    (module,) = (one.module for one in NATIVE if one.app_id == service)
    async with databases.fresh(module, lambda url: upgrade(module, url)) as url:
        connection = await asyncpg.connect(url, ssl=False)
        try:
            for said in asked:
                statement = next(word.removeprefix("SQL=") for word in said.words if word.startswith("SQL="))
                with told(said):
                    await connection.prepare(statement)
        finally:
            await connection.close()


@contextmanager
def told(said: Said) -> Iterator[None]:
    """Have an error say where the statement stands."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise AssertionError(f"{said.page}: {error}: {said.text}") from error


def test_every_statement_is_tried() -> None:
    services = {word for said in commands("make") if "SQL=" in said.text for word in said.words if "SERVICE=" in word}
    assert services == {"SERVICE=task-api", "SERVICE=audit-worker"}
