"""The commands of docs/runbook, and what they speak of: compose, manifests, the native stack."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import yaml
from pydantic import BaseModel

from devstack.layout import REPOSITORY

DIRECTORY: Final = REPOSITORY / "docs" / "runbook"
PAGES: Final = tuple(sorted(DIRECTORY.glob("*.md")))
PROGRAMS: Final = ("make", "docker compose", "kubectl", "curl")
_FENCED: Final = re.compile(r"^ *```console\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_LINE: Final = re.compile(r"^ *\$ (.*)$", re.MULTILINE)
_SPAN: Final = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Said:
    """A command as it stands on a page."""

    page: str
    text: str

    @property
    def words(self) -> list[str]:
        """As a shell reads it, up to a pipe."""
        return shlex.split(self.text.partition(" | ")[0])

    @property
    def asked(self) -> list[str]:
        """Up to what is carried out within a container."""
        return self.words[: self.words.index("--")] if "--" in self.words else self.words

    def after(self, name: str) -> list[str]:
        """Give the values of an option, said as `--name value` or `--name=value`."""
        following = zip(self.asked, [*self.asked[1:], ""], strict=True)
        return [value for word, value in following if word == name] + [
            word.partition("=")[2] for word in self.asked if word.startswith(f"{name}=")
        ]


def commands(program: str) -> list[Said]:
    """Give every command of a program: those of consoles, and those within sentences and tables."""
    return [said for page in PAGES for said in _on(page.stem, page.read_text()) if said.text.startswith(f"{program} ")]


def consoles(page: str) -> list[Said]:
    """Give what one is to type, of whatever program."""
    text = (DIRECTORY / f"{page}.md").read_text()
    return [Said(page, line) for block in _FENCED.findall(text) for line in _LINE.findall(block)]


def _on(page: str, text: str) -> Iterator[Said]:
    yield from consoles(page)
    for span in _SPAN.findall(_FENCED.sub("", text)):
        if span.startswith(tuple(f"{program} " for program in PROGRAMS)):
            yield Said(page, span)


class _Named(BaseModel):
    name: str = ""
    labels: dict[str, str] = {}


class _PodSpec(BaseModel):
    containers: list[_Named] = []


class _Pod(BaseModel):
    metadata: _Named = _Named()
    spec: _PodSpec = _PodSpec()


class _Spec(BaseModel):
    template: _Pod = _Pod()


class Object(BaseModel):
    """As much of a Kubernetes object as commands speak of; what else there is goes unseen."""

    kind: str
    metadata: _Named = _Named()
    spec: _Spec = _Spec()

    @property
    def pod_labels(self) -> dict[str, str]:
        """Of its pods, if it has any."""
        return self.spec.template.metadata.labels

    @property
    def containers(self) -> set[str]:
        """Of its pods."""
        return {container.name for container in self.spec.template.spec.containers}


@cache
def manifests() -> list[Object]:
    """Give every object of deploy/k8s as it is written; patches and settings of kustomize among them do no harm."""
    return [
        Object.model_validate(document)
        for path in sorted((REPOSITORY / "deploy" / "k8s").rglob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if isinstance(document, dict) and "kind" in document
    ]


def named(kind: str) -> set[str]:
    """Give the names of all objects of a kind, in small letters as kubectl takes it."""
    return {one.metadata.name for one in manifests() if one.kind.lower() == kind}


@cache
def compose() -> set[str]:
    """Give the services of docker-compose.yml."""
    return set(yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"])
