"""The parts list of an image tells of the image, not of what we meant to put there."""

from typing import Any

import pytest

from containers.images import ServiceImage
from containers.sbom import Document, Inside, assembled
from devstack.failures import ProvisionError

IMAGE = ServiceImage("task-api", "1.2.3")
DEBIAN = "libc6\t2.36-9+deb12u14\tamd64\n"


def exported() -> Document:
    return {
        "metadata": {"timestamp": "2026-01-01T00:00:00Z"},
        "components": [
            {"type": "library", "name": "Deprecated", "version": "1.3.1", "bom-ref": "a"},
            {"type": "library", "name": "deprecated", "version": "3.0.1", "bom-ref": "b"},
            {"type": "library", "name": "typing_extensions", "version": "4.16.0", "bom-ref": "c"},
            {"type": "library", "name": "pywin32", "version": "312", "bom-ref": "d"},
        ],
        "dependencies": [{"ref": "a", "dependsOn": ["c", "d"]}, {"ref": "d"}],
    }


def inside(**packages: str) -> Inside:
    system = {"ID": "debian", "VERSION_ID": "12"}
    return {"packages": {"task-api": "1.2.3", **packages}, "python": "3.11.2", "distribution": system}


def test_it_has_what_is_installed_and_nothing_that_other_platforms_would_have() -> None:
    found: Any = assembled(IMAGE, exported(), inside(deprecated="1.3.1", **{"typing-extensions": "4.16.0"}), DEBIAN)
    parts = {(part["name"], part["version"]) for part in found["components"]}
    assert parts == {
        ("Deprecated", "1.3.1"),
        ("typing_extensions", "4.16.0"),
        ("cpython", "3.11.2"),
        ("libc6", "2.36-9+deb12u14"),
    }
    assert found["dependencies"] == [{"ref": "a", "dependsOn": ["c"]}]
    assert found["metadata"]["component"]["name"] == "taskwire/task-api:1.2.3"
    (libc,) = [part["purl"] for part in found["components"] if part["name"] == "libc6"]
    assert libc == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64&distro=debian-12"


@pytest.mark.parametrize("strange", [{"deprecated": "2.0"}, {"left-pad": "1.0"}])
def test_an_image_with_a_package_that_the_lock_does_not_have_is_refused(strange: dict[str, str]) -> None:
    with pytest.raises(ProvisionError, match="is not what uv.lock says"):
        assembled(IMAGE, exported(), inside(**strange), DEBIAN)
