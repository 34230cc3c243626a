"""The secrets of overlays/local: made at random, once, in files that git does not see.

They are what an operator of a real cluster has to provide too (docs/kubernetes.md), under the same names.
"""

import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SERVICES: Final = ("task-api", "audit-worker", "notifier")


def write(directory: Path) -> bool:
    """Write `NAME.env` for each Secret, readable by their owner alone; False when they are there already.

    Whole or not at all: they belong together, as the passwords of roles are in the connection strings too.
    """
    if directory.exists():
        return False
    fresh = directory.with_name(f".{directory.name}.{os.getpid()}")
    fresh.mkdir(mode=0o700, parents=True)
    for name, values in made().items():
        file = fresh / f"{name}.env"
        file.touch(mode=0o600)
        file.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    fresh.rename(directory)
    return True


def made() -> Mapping[str, Mapping[str, str]]:
    """Make new values for every Secret: its name, its keys."""
    passwords = {service.replace("-", "_"): secrets.token_urlsafe(24) for service in SERVICES}
    found: dict[str, dict[str, str]] = {
        "taskwire": {
            "TASKWIRE_AUTH_HS256_SECRET": secrets.token_urlsafe(48),
            "TASKWIRE_INTROSPECTION_SECRET": secrets.token_urlsafe(48),
            "TASKWIRE_ERASURE_SECRET": secrets.token_urlsafe(48),
        },
        "postgres": {
            "POSTGRES_PASSWORD": secrets.token_urlsafe(24),
            **{f"{role}_password": password for role, password in passwords.items()},
        },
    }
    for service in SERVICES:
        role = service.replace("-", "_")
        url = f"postgresql://{role}:{passwords[role]}@postgres:5432/{role}"
        found[service] = {"TASKWIRE_DATABASE_URL": url}
        for side in ("dapr", "app"):
            found[f"{service}-{side}-api"] = {"token": secrets.token_urlsafe(32)}
    found["task-api"] |= {
        "TASKWIRE_CURSOR_SECRET": secrets.token_urlsafe(48),
        "TASKWIRE_API_KEY_PEPPERS": f"local:{secrets.token_urlsafe(48)}",
        "TASKWIRE_ENCRYPTION_KEYS": f"local:{base64.b64encode(secrets.token_bytes(32)).decode()}",
    }
    return found
