import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from jgo.env import LockFile
from typing_extensions import override

from devstack import jars
from devstack.failures import ProvisionError

CONTENT = b"a jar, more or less"


class Repository:
    """A Maven repository on this machine with one artifact in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: list[str] = []
        handler = partial(self._handler(), directory=str(root))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.jar = root / "org" / "example" / "one" / "1.0" / "one-1.0.jar"
        self.jar.parent.mkdir(parents=True)
        self.put(CONTENT)

    def put(self, content: bytes) -> None:
        self.jar.write_bytes(content)
        self.jar.with_name("one-1.0.jar.sha1").write_text(hashlib.sha1(content, usedforsecurity=False).hexdigest())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def _handler(self) -> type[SimpleHTTPRequestHandler]:
        requests = self.requests

        class Handler(SimpleHTTPRequestHandler):
            @override
            def do_GET(self) -> None:
                requests.append(self.path)
                super().do_GET()

            @override
            def log_message(self, *_: object) -> None: ...

        return Handler


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    repository = Repository(tmp_path / "repository")
    lock = tmp_path / "kafka.lock.toml"
    lock.write_text(
        '[[dependencies]]\ngroupId = "org.example"\nartifactId = "one"\nversion = "1.0"\npackaging = "jar"\n'
        f'sha256 = "{hashlib.sha256(CONTENT).hexdigest()}"\n'
    )
    monkeypatch.setattr(jars, "LOCK_FILE", lock)
    monkeypatch.setenv("TASKWIRE_MAVEN_MIRROR", repository.url)
    thread = threading.Thread(target=repository.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield repository
    repository.server.shutdown()
    repository.server.server_close()
    thread.join()


def quietly(done: int, total: int) -> None:
    pass


def test_what_the_lock_file_names_is_fetched_once(repository: Repository, tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []

    directory = jars.ensure_jars(tmp_path / "cache", lambda done, total: progress.append((done, total)))
    asked = len(repository.requests)

    assert [(path.name, path.read_bytes()) for path in directory.iterdir()] == [("one-1.0.jar", CONTENT)]
    assert progress == [(1, 1)]
    assert jars.ensure_jars(tmp_path / "cache", quietly) == directory
    assert len(repository.requests) == asked


def test_stacks_that_prepare_at_the_same_time_fetch_it_once(repository: Repository, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: jars.ensure_jars(tmp_path / "cache", quietly), range(4)))

    assert len(found) == 1
    assert len([path for path in repository.requests if path.endswith(".jar")]) == 1


def test_a_jar_with_other_contents_is_refused_and_nothing_is_kept(repository: Repository, tmp_path: Path) -> None:
    repository.put(b"something else")

    with pytest.raises(ProvisionError, match=r"one-1\.0\.jar arrived with other contents than kafka\.lock\.toml"):
        jars.ensure_jars(tmp_path / "cache", quietly)

    assert list((tmp_path / "cache" / "kafka").iterdir()) == []
    repository.put(CONTENT)
    assert jars.ensure_jars(tmp_path / "cache", quietly).is_dir()


def test_a_jar_the_repository_lacks_is_named(repository: Repository, tmp_path: Path) -> None:
    repository.jar.unlink()

    with pytest.raises(ProvisionError, match=r"one.*1\.0.*not found.*TASKWIRE_MAVEN_MIRROR"):
        jars.ensure_jars(tmp_path / "cache", quietly)


@pytest.mark.usefixtures("repository")
def test_a_repository_out_of_reach_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKWIRE_MAVEN_MIRROR", "http://127.0.0.1:9")

    with pytest.raises(ProvisionError, match=r"cannot be reached \(ConnectionError\)\. Check the network"):
        jars.ensure_jars(tmp_path / "cache", quietly)


def test_a_full_disk_is_named_as_such() -> None:
    assert "the disk is full" in str(jars._explained(OSError(28, "No space left on device")))


def test_the_committed_lock_file_pins_every_jar_by_hash() -> None:
    locked = LockFile.load(jars.LOCK_FILE).dependencies

    assert {f"{one.groupId}:{one.artifactId}:{one.version}" for one in locked} >= {jars.KAFKA, jars.LOGGING}
    assert all(len(one.sha256 or "") == 64 for one in locked)
    assert all("SNAPSHOT" not in one.version for one in locked)
