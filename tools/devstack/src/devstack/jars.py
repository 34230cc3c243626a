"""Kafka's jars: the versions and hashes of `kafka.lock.toml`, fetched by jgo into the cache."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import requests
from jgo.env import LockedDependency, LockFile
from jgo.maven import MavenContext

from devstack.failures import ProvisionError
from devstack.filelock import exclusive

LOCK_FILE: Final = Path(__file__).with_name("kafka.lock.toml")
KAFKA: Final = "org.apache.kafka:kafka_2.13:4.1.2"
LOGGING: Final = "org.slf4j:slf4j-simple:1.7.36"
_TIMEOUT: Final = 60
_PARALLEL: Final = 4

Progress = Callable[[int, int], None]
"""Called with how many jars are there, and how many there will be."""


def ensure_jars(cache: Path, progress: Progress, lock_file: Path | None = None) -> Path:
    """A directory with exactly the jars of a lock file, each checked against its hash; by default those of the broker.

    Raises:
        ProvisionError: One could not be fetched, or is not what the lock file says.
    """
    lock_file = lock_file or LOCK_FILE
    digest = hashlib.sha256(lock_file.read_bytes()).hexdigest()[:16]
    complete = cache / "kafka" / digest
    if complete.is_dir():
        return complete
    with exclusive(cache / "kafka.lock"):
        if not complete.is_dir():
            _fetch_all(complete, progress, lock_file)
    return complete


def write_lock() -> None:
    """Resolve the dependencies afresh and write the lock file (`python -m devstack.jars`)."""
    with tempfile.TemporaryDirectory() as scratch:
        context = MavenContext(repo_cache=Path(scratch), timeout=_TIMEOUT)
        wanted = [context.create_dependency(coordinate) for coordinate in (KAFKA, LOGGING)]
        roots, transitive = context.resolver.resolve(wanted)
        LockFile.from_resolved_dependencies([*roots, *transitive], environment_name="kafka").save(LOCK_FILE)


def _fetch_all(complete: Path, progress: Progress, lock_file: Path) -> None:
    locked = LockFile.load(lock_file).dependencies
    complete.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".fetching-", dir=complete.parent))
    try:
        jars = scratch / "jars"
        jars.mkdir()
        context = _context(scratch / "repository")
        with ThreadPoolExecutor(_PARALLEL) as pool:
            fetched = pool.map(lambda one: _fetch(context, one, jars), locked)
            for count, _ in enumerate(fetched, start=1):
                progress(count, len(locked))
        jars.rename(complete)
    except (OSError, RuntimeError, requests.RequestException) as error:
        raise _explained(error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _context(repository: Path) -> MavenContext:
    # Python's requests does not know SSL_CERT_FILE, by which the other downloads learn of a company's own CA.
    if "SSL_CERT_FILE" in os.environ:
        os.environ.setdefault("REQUESTS_CA_BUNDLE", os.environ["SSL_CERT_FILE"])
    mirror = os.environ.get("TASKWIRE_MAVEN_MIRROR")
    repositories = {"mirror": mirror.rstrip("/")} if mirror else None
    return MavenContext(repo_cache=repository, remote_repos=repositories, timeout=_TIMEOUT)


def _fetch(context: MavenContext, locked: LockedDependency, into: Path) -> None:
    component = context.project(locked.groupId, locked.artifactId).at_version(locked.version)
    path = component.artifact(locked.classifier or "", locked.packaging).resolve()
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != locked.sha256:
        raise ProvisionError(
            "Kafka could not be downloaded",
            f"{path.name} arrived with other contents than {LOCK_FILE.name} promises (sha256 {found[:12]}…)",
            "Try again; if it stays so, something between here and the repository changes files",
        )
    path.rename(into / path.name)


def _explained(error: Exception) -> ProvisionError:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return ProvisionError(
            "Kafka could not be downloaded", "the disk is full", "Free 200 MB, or move TASKWIRE_CACHE"
        )
    if isinstance(error, requests.exceptions.SSLError):
        why, fix = "the repository's certificate is not trusted here", "Point SSL_CERT_FILE at your CA bundle"
    elif isinstance(error, requests.RequestException):
        why = f"the Maven repository cannot be reached ({type(error).__name__})"
        fix = "Check the network (HTTPS_PROXY where there is a proxy), or name a mirror in TASKWIRE_MAVEN_MIRROR"
    else:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        fix = "Try again; name a mirror in TASKWIRE_MAVEN_MIRROR if the repository lacks files"
    return ProvisionError("Kafka could not be downloaded", why, fix)


if __name__ == "__main__":
    write_lock()
