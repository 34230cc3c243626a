"""`python -m manifests secrets|alerts|render DIRECTORY`: what the Makefile calls."""

import argparse
import os
import sys
from pathlib import Path

from devstack.console import Console
from devstack.failures import ProvisionError
from devstack.layout import REPOSITORY, Layout
from manifests import alert_rules, local_secrets
from manifests.kustomize import ensure_kustomize


def main() -> int:
    """Run one command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="manifests", description="The Kubernetes manifests of deploy/k8s")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("secrets", help="make the secrets of overlays/local, once")
    verbs.add_parser("alerts", help="write the alerts of deploy/observability for the Prometheus operator")
    render = verbs.add_parser("render", help="print the manifests of a directory")
    render.add_argument("directory", type=Path)
    options = parser.parse_args()
    console = Console.on(sys.stderr)
    try:
        if options.verb == "render":
            return _render(options.directory, console)
        return _secrets(console) if options.verb == "secrets" else _alerts()
    except ProvisionError as error:
        console.failure(str(error))
        return 1


def _secrets(console: Console) -> int:
    directory = REPOSITORY / "deploy/k8s/overlays/local/secrets"
    console.say(f"{'Written' if local_secrets.write(directory) else 'There already'}: {directory}")
    return 0


def _alerts() -> int:
    alert_rules.write(REPOSITORY)
    return 0


def _render(directory: Path, console: Console) -> int:
    cache = Layout.from_environment(dict(os.environ)).cache
    sys.stdout.write(ensure_kustomize(cache, console.say).render(directory))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
