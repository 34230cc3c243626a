"""The custom resource definitions of what Taskwire's manifests speak of, out of their projects' own Go modules."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from cluster.building import module_directory

DAPR: Final = "github.com/dapr/dapr"
FOLDERS: Final[Mapping[str, str]] = {
    DAPR: "charts/dapr/crds",
    "github.com/kedacore/keda/v2": "config/crd/bases",
    "github.com/prometheus-operator/prometheus-operator": "example/prometheus-operator-crd",
}
"""Module, pinned in `tools/cluster/crds/go.mod`, and the folder of its definitions."""


def definitions(cache: Path, progress: Callable[[str], None]) -> Mapping[str, Path]:
    """A folder with definitions for each module; fetched where they are not there yet.

    Raises:
        ProvisionError: They could not be fetched.
    """
    return {module: module_directory(module, cache, progress) / folder for module, folder in FOLDERS.items()}


def chart(cache: Path, progress: Callable[[str], None]) -> Path:
    """Dapr's Helm chart.

    Raises:
        ProvisionError: It could not be fetched.
    """
    return module_directory(DAPR, cache, progress) / "charts" / "dapr"
