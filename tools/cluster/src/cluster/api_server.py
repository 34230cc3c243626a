"""etcd and kube-apiserver: all that checking manifests takes, and the heart of a node."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cluster.background import Background
from cluster.certificates import Authority, Identity
from cluster.kubectl import Kubectl
from cluster.programs import Programs
from devstack.ports import free_base

LOOPBACK: Final = "127.0.0.1"
SERVICE_ADDRESSES: Final = "10.96.0.0/16"
_KUBERNETES_SERVICE: Final = "10.96.0.1"
_READY_WITHIN: Final = 120.0
_ADMINISTRATORS: Final = "system:masters"
_NOBODY: Final = "192.0.2.1"
"""What to announce where no pod will ever ask for it: loopback is refused, and this address is nobody's (RFC 5737)."""


@dataclass(frozen=True)
class Place:
    """Where an API server listens.

    Attributes:
        api: Port of the API.
        etcd: Port of etcd for its clients; the next one is for its peers, of which there are none.
        bind: Address that the API server listens on.
        announced: Address at which pods reach it; None when there are no pods.
    """

    api: int
    etcd: int
    bind: str = LOOPBACK
    announced: str | None = None

    @classmethod
    def free(cls) -> Self:
        """Somewhere on the loopback address where nobody listens."""
        base = free_base(last_offset=2)
        return cls(api=base, etcd=base + 1)


class ApiServer:
    """A Kubernetes API with a store of its own, which ends with this process.

    Without `Place.announced` it is alone: no controller makes service accounts, so pods may name what is not there.
    """

    def __init__(self, home: Path, programs: Programs, place: Place, background: Background) -> None:
        """Prepare one with its data in `home`."""
        self._home = home
        self._programs = programs
        self._place = place
        self._background = background
        self.authority = Authority.new(home / "keys")
        self.service_account_key = self.authority.signing_key("service-accounts")
        self.kubeconfig = self.kubeconfig_for("admin", "taskwire-admin", [_ADMINISTRATORS])
        self.kubectl = Kubectl(programs["kubectl"], self.kubeconfig, home / "kubectl-cache")

    def start(self) -> None:
        """Start etcd, then the API server, and wait until it answers.

        Raises:
            ProvisionError: It did not come up.
        """
        self._background.start("etcd", self._etcd())
        self._background.start("kube-apiserver", self._api_server())
        self._background.wait("kube-apiserver", self._is_ready, _READY_WITHIN)

    def kubeconfig_for(self, file: str, user: str, groups: Sequence[str] = ()) -> Path:
        """Write the file with which a user reaches this API."""
        return write_kubeconfig(
            self._home / f"{file}.kubeconfig", self._place.api, self.authority, self.authority.issue(file, user, groups)
        )

    def _is_ready(self) -> bool:
        return self.kubectl.ask("get", "--raw", "/readyz", timeout=10).ok

    def _etcd(self) -> list[str]:
        clients, peers = (f"http://{LOOPBACK}:{self._place.etcd + offset}" for offset in (0, 1))
        return [
            str(self._programs["etcd"]),
            f"--data-dir={self._home / 'etcd'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",  # nothing here outlives the process
            "--log-level=warn",
        ]

    def _api_server(self) -> list[str]:
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
        addresses = [LOOPBACK, "localhost", _KUBERNETES_SERVICE, *filter(None, [self._place.announced])]
        serving = self.authority.issue("kube-apiserver", "kube-apiserver", (), [*names, *addresses])
        towards_kubelet = self.authority.issue("kube-apiserver-client", "kube-apiserver", [_ADMINISTRATORS])
        alone = [] if self._place.announced else ["--disable-admission-plugins=ServiceAccount"]
        return [
            str(self._programs["kube-apiserver"]),
            f"--etcd-servers=http://{LOOPBACK}:{self._place.etcd}",
            f"--bind-address={self._place.bind}",
            f"--secure-port={self._place.api}",
            f"--advertise-address={self._place.announced or _NOBODY}",
            f"--service-cluster-ip-range={SERVICE_ADDRESSES}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={self.authority.certificate}",
            f"--kubelet-client-certificate={towards_kubelet.certificate}",
            f"--kubelet-client-key={towards_kubelet.key}",
            # Names of nodes are in no DNS here.
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={self.service_account_key}",
            f"--service-account-signing-key-file={self.service_account_key}",
            "--authorization-mode=Node,RBAC",
            "--anonymous-auth=false",
            "--allow-privileged=true",
            *alone,
        ]


def write_kubeconfig(path: Path, port: int, authority: Authority, identity: Identity) -> Path:
    """Write how an identity reaches the API on a loopback port."""
    cluster = {"server": f"https://{LOOPBACK}:{port}", "certificate-authority": str(authority.certificate)}
    user = {"client-certificate": str(identity.certificate), "client-key": str(identity.key)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "taskwire",
        "clusters": [{"name": "taskwire", "cluster": cluster}],
        "users": [{"name": "taskwire", "user": user}],
        "contexts": [{"name": "taskwire", "context": {"cluster": "taskwire", "user": "taskwire"}}],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=2))
    return path
