"""One node with a control plane of its own, seen from outside of its namespaces."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster import door, scratch_image
from cluster.inside import API_PORT, FAILED, READY
from cluster.kubectl import Kubectl, Manifest
from cluster.programs import NODE, Programs, found
from cluster.settings import PAUSE_IMAGE, Home
from containers.docker import docker
from devstack.failures import ProvisionError

NODE_PORTS: Final = 8
_CGROUPS: Final = Path("/sys/fs/cgroup")
_NODE_PORT_RANGE: Final = range(30_000, 32_768)
_START_WITHIN: Final = 600.0
_GONE_WITHIN: Final = 20.0
_POLL: Final = 0.2
_IMAGES_WITHIN: Final = 900.0
_PACKAGES: Final = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "unshare": "util-linux",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""Programs that a distribution has, and Debian's names of the packages."""

Progress = Callable[[str], None]


def missing_packages() -> list[str]:
    """Debian packages that a node needs and this machine lacks."""
    return sorted({package for program, package in _PACKAGES.items() if shutil.which(program) is None})


@dataclass
class Node:
    """A node that runs, or ran.

    Attributes:
        home: Its files.
        cache: Where its programs are.
    """

    home: Home
    cache: Path
    _process: subprocess.Popen[bytes] | None = None

    @property
    def programs(self) -> Programs:
        """What it is made of."""
        return found(NODE, self.cache)

    @property
    def kubeconfig(self) -> Path:
        """How to reach it from this machine, as its administrator."""
        return self.home.path / "kubeconfig"

    @property
    def kubectl(self) -> Kubectl:
        """The kubectl of its version, as its administrator."""
        return Kubectl(self.programs["kubectl"], self.kubeconfig, self.home.path / "kubectl-cache-outside")

    @property
    def node_ports(self) -> list[int]:
        """Ports for services of type NodePort that can be reached on this machine's loopback address."""
        ports: list[int] = json.loads(self.home.state.read_text())["node_ports"]
        return ports

    def start(self, *, tied: bool) -> float:
        """Start it and wait until it is Ready; gives the seconds that took.

        Args:
            tied: Whether it ends with this process; otherwise `stop` ends it.

        Raises:
            ProvisionError: It did not come up.
        """
        if self.home.state.exists():
            raise ProvisionError("the node cannot be started", f"one was in {self.home.path}", "make cluster-down")
        self.home.logs.mkdir(mode=0o700, parents=True)
        began = time.monotonic()
        api, doors = _doors()
        self._process = process = self._launch(doors, tied=tied)
        ports = [port for port in doors if port != API_PORT]
        self.home.write("cluster.json", {"pid": process.pid, "api": api, "node_ports": ports})
        for one in doors.values():
            one.close()
        self._await(process)
        inner = json.loads((self.home.path / "admin.kubeconfig").read_text())
        inner["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{api}"
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(json.dumps(inner, indent=2))
        pause = scratch_image.write(
            self.home.path / "pause.tar", PAUSE_IMAGE, {"/pause": self.programs["pause"]}, ["/pause"]
        )
        self.load(pause)
        return time.monotonic() - began

    def stop(self) -> None:
        """End it with all its pods, and delete its files; nothing to do when there is none."""
        if self.home.state.exists():
            pid = json.loads(self.home.state.read_text())["pid"]
            with suppress(ProcessLookupError):
                # Its first process dies with it, and the kernel ends the rest with that one.
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        _remove_cgroups()
        shutil.rmtree(self.home.path, ignore_errors=True)

    def kill(self, pod: Manifest) -> None:
        """End every process of a pod at once (SIGKILL), as a machine that fails does; its kubelet makes it anew.

        Raises:
            ProvisionError: There is no process of it.
        """
        uid = str(pod["metadata"]["uid"])
        files = _CGROUPS.glob(f"pids/kubepods/**/*{uid}*/**/cgroup.procs")
        pids = {int(line) for file in files for line in file.read_text().split()}
        if not pids:
            raise ProvisionError("a pod cannot be killed", f"no process of {uid} is known", "Look at the node")
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def load(self, archive: Path) -> None:
        """Give it images out of an archive as `docker save` makes them.

        Raises:
            ProvisionError: containerd did not take them.
        """
        self._images("import", str(archive))

    def load_from_docker(self, images: Sequence[str]) -> None:
        """Give it images of the machine's Docker.

        Raises:
            ProvisionError: Docker has not all of them, or containerd did not take them.
        """
        archive = self.home.path / "images.tar"
        docker("save", "--output", str(archive), *images, timeout=_IMAGES_WITHIN)
        self._images("import", str(archive))
        archive.unlink()

    def _images(self, *arguments: str) -> None:
        command = ["ctr", "--address", str(self.home.containerd_socket), "--namespace", "k8s.io", "images", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_IMAGES_WITHIN, check=False)  # noqa: S603
        if done.returncode != 0:
            raise ProvisionError("images could not be imported", done.stderr.strip()[-500:], "See the node's logs")

    def _launch(self, doors: dict[int, socket.socket], *, tied: bool) -> subprocess.Popen[bytes]:
        described = ",".join(f"{port}={one.fileno()}" for port, one in doors.items())
        bond = ["setpriv", "--pdeathsig", "KILL"] if tied else []
        spaces = ["unshare", "--net", "--mount", "--pid", "--ipc", "--fork", "--mount-proc", "--kill-child=SIGKILL"]
        inside = [sys.executable, "-m", "cluster.inside", str(self.home.path), str(self.cache), described]
        with (self.home.logs / "node.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                [*bond, *spaces, *inside],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[one.fileno() for one in doors.values()],
                start_new_session=True,
            )

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_WITHIN
        failed = self.home.path / FAILED
        while not (self.home.path / READY).exists():
            if failed.exists() or process.poll() is not None or time.monotonic() > deadline:
                why = failed.read_text() if failed.exists() else "it ended, or took too long, without a word"
                raise ProvisionError("the node did not start", why, f"See the logs in {self.home.logs}")
            time.sleep(_POLL)


def _doors() -> tuple[int, dict[int, socket.socket]]:
    """Find free ports: one, any, to the API, and some that have the same number on both sides."""
    api = door.listen(0)
    doors = {API_PORT: api}
    for port in _NODE_PORT_RANGE:
        if len(doors) > NODE_PORTS:
            break
        with suppress(OSError):
            doors[port] = door.listen(port)
    return api.getsockname()[1], doors


def _remove_cgroups() -> None:
    """Remove the control groups that the kubelet and its pods leave, deepest first, once the last process has gone."""
    deadline = time.monotonic() + _GONE_WITHIN
    while (roots := [*_CGROUPS.glob("kubepods"), *_CGROUPS.glob("*/kubepods")]) and time.monotonic() < deadline:
        for root in roots:
            for directory, _, _ in os.walk(root, topdown=False):
                with suppress(OSError):
                    Path(directory).rmdir()
        time.sleep(_POLL)
