"""The committed files of the contract, and whether they are what the code generates."""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from event_contract.releases import Contract
from task_events.asyncapi import asyncapi_document
from task_events.json_schema import data_schema, envelope_schema
from task_events.models import CONTRACT_VERSION
from task_events.topics import TASKS_PARTITIONS, TASKS_TOPIC


def current_contract() -> Contract:
    """Give the contract as the code has it now."""
    topic: dict[str, JsonValue] = {"name": TASKS_TOPIC, "partitions": TASKS_PARTITIONS, "key": "task id"}
    return Contract(CONTRACT_VERSION, topic, envelope_schema())


def generated_files() -> dict[str, str]:
    """Give every file that follows from the code, by name."""
    documents = {
        "asyncapi.json": asyncapi_document(),
        "task-event.schema.json": envelope_schema(),
        "task-event-data.schema.json": data_schema(),
    }
    return {name: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for name, document in documents.items()}


def write_files(directory: Path, files: Mapping[str, str]) -> list[str]:
    """Write the files that differ; gives their names."""
    stale = differing(directory, files)
    directory.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (directory / name).write_text(files[name], encoding="utf-8")
    return stale


def differing(directory: Path, files: Mapping[str, str]) -> list[str]:
    """Give the names of files that are missing or say something else."""
    return [name for name, text in files.items() if not _says(directory / name, text)]


def _says(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
