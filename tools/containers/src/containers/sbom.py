"""What is in an image: a CycloneDX document of its Python packages, its Debian packages and its Python."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NotRequired, TypedDict
from urllib.parse import quote

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from containers.docker import docker, run_command
from containers.images import ServiceImage
from devstack.failures import ProvisionError
from devstack.layout import REPOSITORY

DIRECTORY: Final = REPOSITORY / "dist" / "sbom"
_TIMEOUT: Final = 120.0
_ENVIRONMENT: Final = """
import importlib.metadata, json, platform
found = {package.metadata["Name"]: package.version for package in importlib.metadata.distributions()}
release = platform.freedesktop_os_release()
print(json.dumps({"packages": found, "python": platform.python_version(), "distribution": release}))
"""


Component = TypedDict(
    "Component", {"type": str, "name": str, "version": str, "purl": NotRequired[str], "bom-ref": NotRequired[str]}
)
"""A part of an image, as CycloneDX has it."""


class Dependency(TypedDict):
    """What a part needs."""

    ref: str
    dependsOn: NotRequired[list[str]]


class Document(TypedDict):
    """What we look at of a document."""

    metadata: dict[str, object]
    components: list[Component]
    dependencies: list[Dependency]


class Inside(TypedDict):
    """What an image's Python finds around itself."""

    packages: dict[str, str]
    python: str
    distribution: dict[str, str]


def write_sbom(image: ServiceImage) -> Path:
    """Write the document of one image below dist/sbom/.

    The Python packages are those of `uv.lock`, with their hashes and what needs what, as uv exports them; compared with
    what is installed in the image, so that the document tells of the image and not of our intentions.

    Raises:
        ProvisionError: There is no such image, it has a package that is not in `uv.lock`, or the document is not valid.
    """
    inside: Inside = json.loads(_ask(image, "python", "-c", _ENVIRONMENT))
    debian = _ask(image, "dpkg-query", "--show", "--showformat", r"${Package}\t${Version}\t${Architecture}\n")
    document = assembled(image, _exported(image), inside, debian)
    text = json.dumps(document, indent=1) + "\n"
    if error := JsonStrictValidator(SchemaVersion.V1_5).validate_str(text):
        raise ProvisionError(
            f"the parts list of {image.name} is not valid", str(error)[:200], "That is a defect of ours"
        )
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    path = DIRECTORY / f"{image.service}-{image.version}.cdx.json"
    path.write_text(text)
    return path


def assembled(image: ServiceImage, exported: Document, inside: Inside, debian: str) -> Document:
    """Make one document of what uv exports, what is installed, and what Debian's package list says.

    Raises:
        ProvisionError: The image has a Python package, or a version of one, that is not in `uv.lock`.
    """
    installed = {(_normal(name), version) for name, version in inside["packages"].items()} - {
        (image.service, image.version)
    }
    # By version too: the lock may have one for each Python, and packages for other platforms.
    locked = {(_normal(component["name"]), component["version"]): component for component in exported["components"]}
    if strange := sorted(f"{name} {version}" for name, version in installed - locked.keys()):
        raise ProvisionError(
            f"the image {image.name} is not what uv.lock says", ", ".join(strange), "Build it anew: make images"
        )
    here = [component for part, component in locked.items() if part in installed]
    distribution = inside["distribution"]
    python: Component = {"type": "platform", "name": "cpython", "version": inside["python"]}
    metadata = {**exported["metadata"], "component": {"type": "container", "name": image.name, "bom-ref": image.name}}
    known = {component["bom-ref"] for component in here if "bom-ref" in component}
    needs: list[Dependency] = [
        {"ref": needed["ref"], "dependsOn": [ref for ref in needed.get("dependsOn", []) if ref in known]}
        for needed in exported["dependencies"]
        if needed["ref"] in known
    ]
    parts = [*here, python, *_of_debian(debian, distribution)]
    return {**exported, "metadata": metadata, "components": parts, "dependencies": needs}


def _of_debian(lines: str, distribution: Mapping[str, str]) -> list[Component]:
    system = f"{distribution['ID']}-{distribution.get('VERSION_ID', 'unknown')}"
    found: list[Component] = []
    for line in lines.splitlines():
        name, version, architecture = line.split("\t")
        purl = f"pkg:deb/{distribution['ID']}/{quote(name)}@{quote(version)}?arch={architecture}&distro={system}"
        found.append({"type": "library", "name": name, "version": version, "purl": purl})
    return found


def _exported(image: ServiceImage) -> Document:
    uv = [sys.executable, "-I", str(REPOSITORY / "tools" / "bootstrap" / "prepare.py"), "uv", "export", "--quiet"]
    options = ["--frozen", "--no-dev", "--package", image.service, "--format", "cyclonedx1.5"]
    document: Document = json.loads(run_command([*uv, *options], timeout=_TIMEOUT))
    return document


def _ask(image: ServiceImage, program: str, *arguments: str) -> str:
    return docker(
        *("run", "--rm", "--network=none", "--read-only", "--entrypoint", program, image.name, *arguments),
        timeout=_TIMEOUT,
    )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
