"""`make cluster-tools`, `make cluster-up`, `make cluster-down`."""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from cluster import control_plane
from cluster.building import ensure
from cluster.custom_resources import definitions
from cluster.node import Node, missing_packages
from cluster.programs import API_SERVER, DAPR, NODE
from cluster.settings import Home
from devstack.failures import ProvisionError
from devstack.layout import Layout

SIDECAR: Final = f"docker.io/daprio/daprd:{control_plane.version()}"
_SETS: Final = {"api-server": API_SERVER, "node": NODE, "dapr": DAPR}


def main() -> int:
    """Do what was asked; 1 and a reason when it cannot be done."""
    options = _options()
    cache = Layout.from_environment(dict(os.environ)).cache
    node = Node(Home(Path(options.home)), cache)
    try:
        match options.verb:
            case "tools":
                _tools(cache, options.only)
            case "up":
                _up(node)
            case "load":
                node.load_from_docker(options.images)
                _say(f"{len(options.images)} images are on the node")
            case "down":
                node.stop()
                _say("the node is gone")
    except ProvisionError as error:
        sys.stderr.write("\n".join([f"✗ {error}", *getattr(error, "__notes__", []), ""]))
        return 1
    return 0


def _tools(cache: Path, only: str | None) -> None:
    for name, programs in _SETS.items():
        if only in {None, name}:
            ensure(programs, cache, _say)
    definitions(cache, _say)
    _say(f"all programs are in {cache / 'cluster'}")
    if packages := missing_packages():
        _say(f"for a node install also: apt-get install --no-install-recommends {' '.join(packages)}")


def _up(node: Node) -> None:
    if packages := missing_packages():
        raise ProvisionError(
            "there is no node",
            f"this machine has no {', '.join(packages)}",
            f"apt-get install --no-install-recommends {' '.join(packages)}",
        )
    ensure([*NODE, *DAPR], node.cache, _say)
    try:
        _say(f"the node is Ready after {node.start(tied=False):.1f} s")
        _say(f"Dapr's control plane is ready after {control_plane.install(node, SIDECAR, _say):.1f} s")
    except ProvisionError:
        _say(f"logs are in {node.home.logs}; make cluster-down removes what there is")
        raise
    _say(f"export KUBECONFIG={node.kubeconfig}")
    _say(f"kubectl: {node.programs['kubectl']}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cluster", description=__doc__)
    parser.add_argument("verb", choices=["tools", "up", "load", "down"])
    parser.add_argument("images", nargs="*", help="of Docker, to be loaded")
    parser.add_argument("--only", choices=list(_SETS), help="build these alone")
    parser.add_argument("--home", default=str(Path(tempfile.gettempdir()) / "taskwire-node"), help="files of the node")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
