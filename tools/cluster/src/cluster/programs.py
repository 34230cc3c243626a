"""The programs of a cluster: from which Go module each is built, and where it lies once it is."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devstack.go_build import target_platform

MODULES: Final = Path(__file__).resolve().parents[2]
"""Our Go modules lie side by side in `tools/cluster`; the tool only ever runs from the checkout."""

BUILD_FLAGS: Final = ("-mod=readonly", "-trimpath", "-buildvcs=false")


@dataclass(frozen=True)
class Program:
    """One program.

    Attributes:
        name: Of the file.
        module: Directory of the Go module that pins it.
        package: What `go build` is told to build there.
        pinned: The requirement in go.mod whose version is the program's.
        stamps: Variables that the linker fills in, with `{version}` (v1.2.3), `{major}` and `{minor}` in the values.
    """

    name: str
    module: str
    package: str
    pinned: str = ""
    stamps: tuple[tuple[str, str], ...] = ()

    @property
    def source(self) -> Path:
        """Where its Go module is."""
        return MODULES / self.module

    @property
    def version(self) -> str:
        """Its version by go.mod, with the leading v; empty for what is written here."""
        found = re.search(rf"^(?:require )?\s*{re.escape(self.pinned)} (v\S+)", _go_mod(self.source), re.MULTILINE)
        return found[1] if self.pinned and found else ""

    @property
    def linker_flags(self) -> str:
        """Flags of `go build -ldflags`: without symbols, and with the version where the program cannot know it."""
        numbers = self.version.removeprefix("v").split(".")
        known = {"version": self.version, "major": numbers[0], "minor": (*numbers, "")[1]}
        stamps = [f"-X {variable}={value.format(**known)}" for variable, value in self.stamps]
        return " ".join(["-s", "-w", *stamps])

    def path(self, cache: Path) -> Path:
        """Where it is, once it is built; any change in its sources changes this."""
        digest = hashlib.sha256(repr((target_platform(), BUILD_FLAGS, self.package, self.stamps)).encode())
        for file in sorted([self.source / "go.mod", self.source / "go.sum", *self.source.glob("*.go")]):
            digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
        return cache / "cluster" / f"{self.name}-{digest.hexdigest()[:16]}" / self.name


def _go_mod(module: Path) -> str:
    return (module / "go.mod").read_text()


def _kubernetes(name: str) -> Program:
    stamps = [
        (f"{package}.{variable}", value)
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for variable, value in (("gitVersion", "{version}"), ("gitMajor", "{major}"), ("gitMinor", "{minor}"))
    ]
    return Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", "k8s.io/kubernetes", tuple(stamps))


def _dapr(name: str) -> Program:
    stamps = (("github.com/dapr/dapr/pkg/buildinfo.version", "{version}"),)
    return Program(name, "dapr", f"github.com/dapr/dapr/cmd/{name}", "github.com/dapr/dapr", stamps)


API_SERVER: Final = (
    _kubernetes("kube-apiserver"),
    _kubernetes("kubectl"),
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3"),
)
"""What checking manifests takes."""

NODE: Final = (
    *API_SERVER,
    _kubernetes("kubelet"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kube-proxy"),
    Program("coredns", "coredns", ".", "github.com/coredns/coredns"),
    Program("pause", "pause", "."),
)
"""What a node takes, besides containerd, runc and the CNI plugins, which are packages of every distribution."""

DAPR: Final = (
    *(_dapr(name) for name in ("operator", "sentry", "injector", "placement")),
    Program("helm", "helm", "helm.sh/helm/v3/cmd/helm", "helm.sh/helm/v3"),
)
"""Dapr's control plane without its scheduler, and what renders its chart."""


@dataclass(frozen=True)
class Programs:
    """Programs that are there.

    Attributes:
        paths: By name.
    """

    paths: Mapping[str, Path]

    def __getitem__(self, name: str) -> Path:
        """Where the program is."""
        return self.paths[name]


def missing(wanted: Iterable[Program], cache: Path) -> list[Program]:
    """Those that are not built yet."""
    return [program for program in wanted if not program.path(cache).exists()]


def found(wanted: Iterable[Program], cache: Path) -> Programs:
    """All of them by name, whether they are there or not; ask `missing` first."""
    return Programs({program.name: program.path(cache) for program in wanted})
