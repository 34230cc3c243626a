"""Renders deploy/k8s from a copy with secrets for the local overlay: nothing of the checkout is touched."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.deploy.objects import Manifests

from devstack.layout import REPOSITORY
from manifests import local_secrets
from manifests.kustomize import Kustomize

K8S: Final = REPOSITORY / "deploy" / "k8s"
OVERLAYS: Final = ("overlays/local", "overlays/production")
COMPONENTS: Final = tuple(sorted(path.parent.name for path in (K8S / "components").glob("*/kustomization.yaml")))


class Renderer:
    """Gives the manifests of an overlay, each rendered once."""

    def __init__(self, kustomize: Kustomize, directory: Path) -> None:
        self._kustomize = kustomize
        self.copy = directory / "deploy" / "k8s"
        shutil.copytree(K8S, self.copy, ignore=shutil.ignore_patterns("secrets"))
        shutil.copytree(REPOSITORY / "components", directory / "components")
        local_secrets.write(self.copy / "overlays" / "local" / "secrets")
        self._texts: dict[str, str] = {}
        self._parsed: dict[str, Manifests] = {}

    def __call__(self, overlay: str) -> Manifests:
        if overlay not in self._parsed:
            self._parsed[overlay] = Manifests.parse(self.text(overlay))
        return self._parsed[overlay]

    def text(self, overlay: str) -> str:
        """The YAML documents of an overlay (`overlays/local`, `base`)."""
        if overlay not in self._texts:
            self._texts[overlay] = self.render(self.copy / overlay)
        return self._texts[overlay]

    def render(self, directory: Path) -> str:
        """The YAML documents of a directory that is not one of the copy's own."""
        return self._kustomize.render(directory)

    def with_components(self, components: Sequence[str]) -> Manifests:
        """The base with these components and no others."""
        directory = self.copy / "overlays" / f"with-{'-'.join(components)}"
        directory.mkdir()
        chosen = "".join(f"  - {os.path.relpath(self.copy / 'components' / name, directory)}\n" for name in components)
        (directory / "kustomization.yaml").write_text(f"resources:\n  - ../../base\ncomponents:\n{chosen}")
        return Manifests.parse(self._kustomize.render(directory))
