"""Acts as a user of what `docker compose up` has started: the demo, tokens, dead letters."""

import os
import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Final

from containers.environment import read
from devstack.commands.dead_letters import desk, settle
from devstack.console import Console
from devstack.demo import Demo
from devstack.failures import ProvisionError
from devstack.layout import HOST, REPOSITORY
from devstack.services import SERVICES
from devstack.tokens import make_token

ENVIRONMENT: Final = REPOSITORY / ".env"
_PREFIX: Final = "TASKWIRE_PORT_PREFIX"
_HERO: Final = "alice"
_COMMAND: Final = f"make -s token STACK=containers USER={_HERO}"
_HINT: Final = "Look at docker compose ps --all and docker compose logs "


def demo() -> None:
    """Tell the story of one task with real requests.

    Raises:
        ProvisionError: There is no secret to sign a token with, or a step did not go as it should.
    """
    settings = _settings()
    urls = _urls(settings)
    own_token = make_token(_secret(settings), _HERO)
    Demo(Console.on(sys.stdout), urls, _HERO, own_token, _COMMAND, _HINT).play()


def token() -> None:
    """Print a token for the user and the roles that `make token` was given, and nothing else."""
    roles = os.environ.get("ROLES", "").replace(",", " ").split()
    sys.stdout.write(make_token(_secret(_settings()), os.environ.get("USER") or _HERO, roles) + "\n")


def dlq() -> int:
    """List, show, redrive or discard dead letters, as `make dlq` was told; 1 when a redrive failed."""
    settings = _settings()
    names = ("service", "id", "redrive", "discard", "note")
    options = Namespace(**{name: os.environ.get(name.upper(), "") for name in names})
    return settle(options, lambda service: desk(_urls(settings)[service], _secret(settings)))


def _urls(settings: Mapping[str, str]) -> Mapping[str, str]:
    prefix = settings.get(_PREFIX) or "80"
    return {service.app_id: f"http://{HOST}:{prefix}{service.index:02}" for service in SERVICES}


def _settings() -> Mapping[str, str]:
    # As Compose has it: our environment wins.
    return {**read(ENVIRONMENT), **os.environ}


def _secret(settings: Mapping[str, str]) -> str:
    secret = settings.get("TOKEN_SECRET")
    if not secret:
        raise ProvisionError("no token can be made", f"{ENVIRONMENT} has no TOKEN_SECRET", "make compose-env makes one")
    return secret
