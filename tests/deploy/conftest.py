"""The manifests of deploy/k8s, rendered by a real kustomize."""

import os

import pytest
from tests.deploy.rendering import Renderer
from tests.deploy.telling import TOLD

from devstack.failures import ProvisionError
from devstack.layout import Layout
from manifests.kustomize import Kustomize, ensure_kustomize


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show it, where nothing is captured."""
    for line in config.stash.get(TOLD, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def kustomize() -> Kustomize:
    try:
        return ensure_kustomize(Layout.from_environment(dict(os.environ)).cache, print)
    except ProvisionError as error:
        pytest.skip(f"NOT CHECKED: the Kubernetes manifests. {error}. Install kustomize 5 or kubectl 1.27")


@pytest.fixture(scope="session")
def rendered(kustomize: Kustomize, tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    """`rendered("overlays/local")` gives the overlay's objects, `.text(…)` its YAML."""
    return Renderer(kustomize, tmp_path_factory.mktemp("manifests"))
