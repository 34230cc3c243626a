"""The secrets of one stack: made at random, kept in its home, readable by its owner only."""

import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from devstack.failures import ProvisionError


@dataclass(frozen=True)
class Credentials:
    """What the data of a stack are locked with.

    Attributes:
        auth_secret: Signs and verifies development tokens (HS256).
        postgres_password: Password of the superuser `postgres`.
        role_passwords: Password per database role.
    """

    auth_secret: str
    postgres_password: str
    role_passwords: dict[str, str]

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """The secrets kept in this file, None when there are none yet.

        Raises:
            ProvisionError: The file is there but cannot be read.
        """
        try:
            kept = json.loads(path.read_text())
            return cls(kept["auth_secret"], kept["postgres_password"], kept["role_passwords"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ProvisionError(
                "the secrets of this stack cannot be read",
                f"{path} is damaged or not readable ({type(error).__name__})",
                "Run make reset to start afresh (this deletes the data of this stack)",
            ) from error

    @property
    def introspection_secret(self) -> str:
        """What task-api demands of services that ask what an API key is; made of the other secret, so never kept."""
        return hmac.digest(self.auth_secret.encode(), b"introspection", "sha256").hex()

    @classmethod
    def ensure(cls, path: Path, roles: list[str]) -> Self:
        """The secrets kept in this file, completed for these roles and created where missing."""
        kept = cls.load(path)
        if kept is not None and all(role in kept.role_passwords for role in roles):
            return kept
        passwords = kept.role_passwords if kept else {}
        complete = cls(
            kept.auth_secret if kept else secrets.token_urlsafe(48),
            kept.postgres_password if kept else secrets.token_urlsafe(24),
            {role: passwords.get(role) or secrets.token_urlsafe(24) for role in {*passwords, *roles}},
        )
        write_private(path, json.dumps(asdict(complete), indent=2) + "\n")
        return complete


def write_private(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a file only its owner can read, whole or not at all; `durable`: it survives a power cut too."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
