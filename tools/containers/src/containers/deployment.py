"""Acts as a user of what `docker compose up` has started: the demo, and tokens."""

import os
import sys
from collections.abc import Mapping
from typing import Final

from containers.environment import read
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


def demo() -> None:
    """Tell the story of one task with real requests.

    Raises:
        ProvisionError: There is no secret to sign a token with, or a step did not go as it should.
    """
    settings = _settings()
    prefix = settings.get(_PREFIX, "80")
    urls = {service.app_id: f"http://{HOST}:{prefix}{service.index:02}" for service in SERVICES}
    Demo(Console.on(sys.stdout), urls, _HERO, make_token(_secret(settings), _HERO), _COMMAND).play()


def token() -> None:
    """Print a token for the user and the roles that `make token` was given, and nothing else."""
    roles = os.environ.get("ROLES", "").replace(",", " ").split()
    sys.stdout.write(make_token(_secret(_settings()), os.environ.get("USER") or _HERO, roles) + "\n")


def _settings() -> Mapping[str, str]:
    # As Compose has it: our environment wins.
    return {**read(ENVIRONMENT), **os.environ}


def _secret(settings: Mapping[str, str]) -> str:
    secret = settings.get("TOKEN_SECRET")
    if secret is None:
        raise ProvisionError("no token can be made", f"{ENVIRONMENT} has no TOKEN_SECRET", "make compose-env makes one")
    return secret
