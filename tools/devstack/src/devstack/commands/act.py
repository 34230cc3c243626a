"""Act as a user of a stack."""

import argparse
import sys
from typing import Final

from devstack.console import Console
from devstack.credentials import Credentials
from devstack.demo import Demo
from devstack.failures import ProvisionError
from devstack.layout import Layout
from devstack.screen import token_command
from devstack.state import RUNNING, read_report
from devstack.tokens import make_token

_HERO: Final = "alice"


def token(layout: Layout, options: argparse.Namespace, _: Console) -> int:
    """Print a token and nothing else."""
    roles = options.roles.replace(",", " ").split()
    sys.stdout.write(make_token(secret(layout), options.user, roles) + "\n")
    return 0


def demo(layout: Layout, _: argparse.Namespace, __: Console) -> int:
    """Tell the story of one task with real requests."""
    report = read_report(layout)
    if report is None or report["state"] != RUNNING:
        raise ProvisionError("the demo needs a running stack", f"none runs in {layout.home}", "Start one: make up")
    urls = {name: service["url"] for name, service in report["services"].items()}
    own_token = make_token(secret(layout), _HERO)
    Demo(Console.on(sys.stdout), urls, _HERO, own_token, token_command(layout, _HERO)).play()
    return 0


def secret(layout: Layout) -> str:
    """Give the secret that tokens of this stack are signed with.

    Raises:
        ProvisionError: There is none yet.
    """
    credentials = Credentials.load(layout.credentials_file)
    if credentials is None:
        raise ProvisionError(
            "no token can be made", f"no stack was ever started in {layout.home}", "Start one: make up"
        )
    return credentials.auth_secret
