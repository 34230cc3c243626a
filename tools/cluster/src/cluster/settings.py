"""What the parts of a node are told, as files in its home."""

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NODE: Final = "taskwire"
ADDRESS: Final = "10.85.0.1"
"""Of the bridge between the pods, which is the node's address; it exists in the node's network namespace alone."""
PODS: Final = "10.85.0.0/16"
BRIDGE: Final = "cni0"
DOMAIN: Final = "cluster.local"
PAUSE_IMAGE: Final = "docker.io/taskwire/pause:1"
_CNI_PROGRAMS: Final = "/usr/lib/cni"


@dataclass(frozen=True)
class Home:
    """Where a node keeps everything; short, because the path of a socket may have 107 characters.

    Attributes:
        path: The directory.
    """

    path: Path

    @property
    def containerd_socket(self) -> Path:
        """Where containerd listens, for programs outside the node's namespaces too."""
        return self.path / "containerd.sock"

    @property
    def logs(self) -> Path:
        """What each part says."""
        return self.path / "logs"

    @property
    def pod_logs(self) -> Path:
        """What each container says."""
        return self.path / "pod-logs"

    @property
    def state(self) -> Path:
        """Written when the node is ready: how to reach it."""
        return self.path / "cluster.json"

    def write(self, name: str, content: object) -> Path:
        """Write a file: text as it is, anything else as JSON."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
        return path


def containerd(home: Home) -> Path:
    """A containerd beside another one on the same machine, where nobody may lower an oom_score_adj."""
    return home.write(
        "containerd.toml",
        textwrap.dedent(
            f"""
            version = 2
            root = "{home.path}/containerd"
            state = "{home.path}/containerd-state"

            [grpc]
              address = "{home.containerd_socket}"

            [plugins."io.containerd.grpc.v1.cri"]
              sandbox_image = "{PAUSE_IMAGE}"
              restrict_oom_score_adj = true
              disable_apparmor = true

              [plugins."io.containerd.grpc.v1.cri".cni]
                bin_dir = "{_CNI_PROGRAMS}"
                conf_dir = "{home.path}/cni"

              [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
                runtime_type = "io.containerd.runc.v2"

                [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
                  SystemdCgroup = false
            """
        ),
    )


def network(home: Home) -> Path:
    """Pods on one bridge, reachable from the node and from each other, and nothing else from them."""
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(home.path / "addresses"),
            "ranges": [[{"subnet": PODS, "rangeStart": "10.85.1.1", "gateway": ADDRESS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}, {"type": "firewall"}]
    return home.write("cni/10-taskwire.conflist", {"cniVersion": "1.0.0", "name": "taskwire", "plugins": plugins})


def kubelet(home: Home, client_ca: Path, certificate: Path, key: Path) -> Path:
    """A kubelet that changes nothing of the machine and evicts nobody because its disk is rather full."""
    home.write("resolv.conf", f"nameserver {ADDRESS}\n")
    return home.write(
        "kubelet.json",
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": str(client_ca)},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "tlsCertFile": str(certificate),
            "tlsPrivateKeyFile": str(key),
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            "clusterDNS": [ADDRESS],
            "clusterDomain": DOMAIN,
            "resolvConf": str(home.path / "resolv.conf"),
            "containerRuntimeEndpoint": f"unix://{home.containerd_socket}",
            "podLogsDir": str(home.pod_logs),
            "volumePluginDir": str(home.path / "volume-plugins"),
            "evictionHard": {"memory.available": "64Mi"},
            "imageGCHighThresholdPercent": 100,
        },
    )


def kube_proxy(home: Home, kubeconfig: Path) -> Path:
    """Services by iptables of the node's namespace; ports of the node on its loopback address too."""
    unchanged = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    return home.write(
        "kube-proxy.json",
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "hostnameOverride": NODE,
            "mode": "iptables",
            "clusterCIDR": PODS,
            "conntrack": unchanged,
            "iptables": {"localhostNodePorts": True},
        },
    )


def coredns(home: Home, kubeconfig: Path) -> Path:
    """Names of services, on the node itself."""
    return home.write(
        "Corefile",
        textwrap.dedent(
            f"""
            .:53 {{
                errors
                ready 127.0.0.1:8181
                kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
                    kubeconfig {kubeconfig} taskwire
                    pods disabled
                    ttl 5
                }}
                cache 5
            }}
            """
        ),
    )
