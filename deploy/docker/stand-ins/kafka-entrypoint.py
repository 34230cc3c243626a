#!/usr/bin/python3 -I
"""Runs one KRaft node; takes of the public image's interface KAFKA_… settings, CLUSTER_ID and options of Java.

KAFKA_LOG_DIRS is `log.dirs`: one underscore is a dot, two are an underscore, three a hyphen.
"""

import os
import re
import subprocess
from pathlib import Path

NOT_SETTINGS = {"KAFKA_HEAP_OPTS", "KAFKA_OPTS", "KAFKA_JVM_PERFORMANCE_OPTS", "KAFKA_VERSION", "KAFKA_LOG4J_OPTS"}
ALONE = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.quorum.voters": "1@localhost:9093",
    "controller.listener.names": "CONTROLLER",
    "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
    "advertised.listeners": "PLAINTEXT://localhost:9092",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "log.dirs": "/var/lib/kafka/data",
}
"""What it runs with when it is told nothing."""


def setting(variable: str) -> str:
    """The name of a setting that a variable stands for."""
    signs = {1: ".", 2: "_", 3: "-"}
    name = variable.removeprefix("KAFKA_").lower()
    return re.sub("_{1,3}", lambda found: signs[len(found.group())], name)


def main() -> None:
    """Write the settings, format the storage where there is none, become the broker."""
    names = [name for name in os.environ if name.startswith("KAFKA_") and name not in NOT_SETTINGS]
    told = {setting(name): os.environ[name] for name in names}
    properties = Path("/tmp/server.properties")
    properties.write_text("".join(f"{name}={value}\n" for name, value in (told or ALONE).items()))
    java = ["java", *os.environ.get("KAFKA_HEAP_OPTS", "-Xms128m -Xmx512m").split(), "-XX:+ExitOnOutOfMemoryError"]
    java += ["-XX:-UsePerfData", "-Djava.awt.headless=true"]
    java += [
        option for name in ("KAFKA_JVM_PERFORMANCE_OPTS", "KAFKA_OPTS") for option in os.environ.get(name, "").split()
    ]
    java += ["-cp", "/opt/kafka/libs/*"]
    cluster = os.environ.get("CLUSTER_ID", "5L6g3nShT-eMCtK--X86sw")
    format_storage = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "--cluster-id", cluster]
    subprocess.run([*java, *format_storage, "--config", str(properties)], check=True)
    os.execvp("java", [*java, "kafka.Kafka", str(properties)])


main()
