"""The custom resource definitions of what Taskwire's manifests speak of, out of their projects' own Go modules."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from cluster.building import module_directory
from cluster.kubectl import Kubectl

DAPR: Final = "github.com/dapr/dapr"
_FILES: Final[Mapping[str, tuple[str, ...]]] = {
    DAPR: ("charts/dapr/crds/*.yaml",),
    "github.com/external-secrets/external-secrets": ("config/crds/bases/external-secrets.io_externalsecrets.yaml",),
    "github.com/kedacore/keda/v2": ("config/crd/bases/keda.sh_*.yaml",),
    "github.com/prometheus-operator/prometheus-operator": tuple(
        f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
        # The rest is about running Prometheus itself, and takes an API server twenty seconds to read.
        for kind in ("podmonitors", "servicemonitors", "prometheusrules")
    ),
}
"""Files by the module they are in, which `tools/cluster/crds/go.mod` pins."""


def definitions(cache: Path, progress: Callable[[str], None]) -> list[Path]:
    """The files of all definitions; fetched where they are not there yet.

    Raises:
        ProvisionError: They could not be fetched.
    """
    return [
        file
        for module, patterns in _FILES.items()
        for directory in [module_directory(module, cache, progress)]
        for pattern in patterns
        for file in sorted(directory.glob(pattern))
    ]


def chart(cache: Path, progress: Callable[[str], None]) -> Path:
    """Dapr's Helm chart.

    Raises:
        ProvisionError: It could not be fetched.
    """
    return module_directory(DAPR, cache, progress) / "charts" / "dapr"


def apply_definitions(kubectl: Kubectl, files: Sequence[Path]) -> None:
    """Apply definitions, and wait until the API serves them.

    Raises:
        ProvisionError: One was refused.
    """
    named = [f"--filename={file}" for file in files]
    kubectl.run("apply", "--server-side", *named)
    kubectl.run("wait", "--for=condition=Established", "--timeout=60s", *named)
