"""The first process of a node's own namespaces: starts every part of the node, and everything ends with it.

The namespaces are made by `unshare` (see `node.py`): what is mounted, bridged and filtered here the machine outside
never sees, and all of it is gone with this process, whatever ends it.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from cluster import door, settings
from cluster.api_server import ApiServer, Place
from cluster.background import Background
from cluster.programs import NODE, Programs, found
from cluster.settings import ADDRESS, BRIDGE, Home
from devstack.failures import ProvisionError

READY: Final = "ready"
FAILED: Final = "failed"
API_PORT: Final = 6443
_ETCD_PORT: Final = 2379
_READY_WITHIN: Final = 180.0
_REAP_EVERY: Final = 1.0
_SCRATCH: Final = ("/run", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers")
"""Directories with fixed names that the parts of a node write to."""

_PARAMETERS: Final = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""Of the whole machine, and a kubelet insists on its own values: it gets copies to write to."""


def main(home: Home, cache: Path, doors: dict[int, socket.socket]) -> int:
    """Start the node, say so in its home, and stay."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    background = Background(home.logs)
    try:
        _isolate()
        door.serve(doors)
        _start(home, found(NODE, cache), background)
    except (ProvisionError, OSError, subprocess.SubprocessError) as error:
        notes = getattr(error, "__notes__", [])
        home.write(FAILED, "\n".join([str(error), *notes]))
        return 1
    home.write(READY, "")
    while True:
        _bury_orphans()
        time.sleep(_REAP_EVERY)


def _isolate() -> None:
    """Keep what the parts write to fixed places here, and have nobody change a kernel parameter but the network's."""
    for directory in _SCRATCH:
        Path(directory).mkdir(parents=True, exist_ok=True)
        _call("mount", "-t", "tmpfs", "tmpfs", directory)
    _call("mount", "--bind", "/proc/sys/net", "/proc/sys/net")
    _call("mount", "--rbind", "/proc/sys", "/proc/sys")
    _call("mount", "-o", "remount,ro,bind", "/proc/sys")
    for parameter in _PARAMETERS:
        copy = Path("/run") / parameter.replace("/", ".")
        copy.write_text((Path("/proc/sys") / parameter).read_text())
        _call("mount", "--bind", str(copy), f"/proc/sys/{parameter}")
    _call("ip", "link", "set", "lo", "up")
    _call("ip", "link", "add", BRIDGE, "type", "bridge")
    _call("ip", "address", "add", f"{ADDRESS}/16", "dev", BRIDGE)
    _call("ip", "link", "set", BRIDGE, "up")
    # Without any route kube-proxy would not know which address is the node's, and pods could reach no service.
    _call("ip", "route", "add", "default", "dev", BRIDGE)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _start(home: Home, programs: Programs, background: Background) -> None:
    place = Place(api=API_PORT, etcd=_ETCD_PORT, bind="0.0.0.0", announced=ADDRESS)  # noqa: S104 - of the namespace
    api = ApiServer(home.path, programs, place, background)
    background.start("containerd", ["containerd", "--config", str(settings.containerd(home))])
    settings.network(home)
    api.start()
    background.start("kube-controller-manager", _controller_manager(api, programs))
    background.start("kube-scheduler", _scheduler(api, programs))
    background.wait("containerd", home.containerd_socket.exists, _READY_WITHIN)
    background.start("kubelet", _kubelet(home, api, programs))
    background.start("kube-proxy", _kube_proxy(home, api, programs))
    names = settings.coredns(home, api.kubeconfig)
    background.start("coredns", [str(programs["coredns"]), "-conf", str(names)])
    background.wait("kubelet", lambda: _is_ready(api), _READY_WITHIN)


def _controller_manager(api: ApiServer, programs: Programs) -> list[str]:
    kubeconfig = api.kubeconfig_for("controller-manager", "system:kube-controller-manager")
    return [
        str(programs["kube-controller-manager"]),
        f"--kubeconfig={kubeconfig}",
        f"--service-account-private-key-file={api.service_account_key}",
        f"--root-ca-file={api.authority.certificate}",
        "--use-service-account-credentials",
        "--leader-elect=false",
    ]


def _scheduler(api: ApiServer, programs: Programs) -> list[str]:
    kubeconfig = api.kubeconfig_for("scheduler", "system:kube-scheduler")
    return [str(programs["kube-scheduler"]), f"--kubeconfig={kubeconfig}", "--leader-elect=false"]


def _kubelet(home: Home, api: ApiServer, programs: Programs) -> list[str]:
    kubeconfig = api.kubeconfig_for("kubelet", f"system:node:{settings.NODE}", ["system:nodes"])
    serving = api.authority.issue("kubelet-serving", settings.NODE, (), [settings.NODE, ADDRESS])
    config = settings.kubelet(home, api.authority.certificate, serving.certificate, serving.key)
    return [
        str(programs["kubelet"]),
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={home.path / 'kubelet'}",
        f"--cert-dir={home.path / 'kubelet-keys'}",
        f"--hostname-override={settings.NODE}",
        f"--node-ip={ADDRESS}",
    ]


def _kube_proxy(home: Home, api: ApiServer, programs: Programs) -> list[str]:
    kubeconfig = api.kubeconfig_for("kube-proxy", "system:kube-proxy")
    return [str(programs["kube-proxy"]), f"--config={settings.kube_proxy(home, kubeconfig)}"]


def _is_ready(api: ApiServer) -> bool:
    ready = '{.status.conditions[?(@.type=="Ready")].status}'
    return api.kubectl.ask("get", "node", settings.NODE, "-o", f"jsonpath={ready}").output == "True"


def _bury_orphans() -> None:
    """The first process of a namespace inherits what others leave behind: the shims of pods that are gone."""
    for child in psutil.Process().children():
        with suppress(psutil.Error, ChildProcessError):
            if child.status() == psutil.STATUS_ZOMBIE and child.name() == "containerd-shim":
                os.waitpid(child.pid, os.WNOHANG)


def _call(*command: str) -> None:
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise ProvisionError(
            f"{' '.join(command)} failed", done.stderr.strip() or "it did not say why", "A node needs root and Linux"
        )


def _sockets(described: str) -> dict[int, socket.socket]:
    """The doors as `node.py` names them: `port=descriptor,…`."""
    pairs = (item.split("=") for item in described.split(",") if item)
    return {int(port): socket.socket(fileno=int(descriptor)) for port, descriptor in pairs}


if __name__ == "__main__":
    sys.exit(main(Home(Path(sys.argv[1])), Path(sys.argv[2]), _sockets(sys.argv[3])))
