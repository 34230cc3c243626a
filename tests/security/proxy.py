"""Signs requests by the letter of docs/identity.md, on its own: nothing of the product is used."""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

KEY: Final = "edge-1"
SECRET: Final = secrets.token_hex(32)
OTHER_KEY: Final = "edge-2"
OTHER_SECRET: Final = secrets.token_hex(32)
PROXY_KEYS: Final = f"{KEY}:{SECRET},{OTHER_KEY}:{OTHER_SECRET}"


@dataclass(frozen=True)
class Signed:
    """A request of a proxy; what is left out is as it should be."""

    method: str = "GET"
    target: str = "/api/v1/tasks"
    body: bytes = b""
    subject: str = "alice"
    roles: str = ""
    service: str = "task-api"
    key: str = KEY
    secret: str = SECRET
    age: int = 0

    def credential(self, **instead: str) -> str:
        """Make the header; `instead` are values that differ from the signed ones."""
        path, _, query = self.target.partition("?")
        values = {
            "body": hashlib.sha256(self.body).hexdigest(),
            "key": self.key,
            "time": str(int(time.time()) - self.age),
            "nonce": secrets.token_hex(16),
            "subject": quote(self.subject, safe=""),
            "roles": self.roles,
        }
        text = "\n".join(["Taskwire-HMAC-SHA256", self.service, self.method, path, query, *values.values()])
        values["signature"] = hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        shown = {name: value for name, value in (values | instead).items() if value}
        return "Taskwire-HMAC-SHA256 " + ",".join(f"{name}={value}" for name, value in shown.items())

    def headers(self, **instead: str) -> dict[str, str]:
        """Make the headers, also of the body."""
        kind = {"Content-Type": "application/json"} if self.body else {}
        return {"Authorization": self.credential(**instead)} | kind
