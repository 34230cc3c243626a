"""The credential of a signed request, and the text that its signature is over: docs/identity.md, to the letter."""

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from chassis.identity.guards import InvalidCredentialError
from chassis.identity.subjects import is_subject

SCHEME: Final = "Taskwire-HMAC-SHA256"
"""Of the `Authorization` header, and the first line of what is signed."""
MAX_CREDENTIAL_CHARS: Final = 4096
MAX_ROLES: Final = 20

# No value can hold a line's end or a comma, so neither the credential nor what is signed can be read in two ways.
_VALUES: Final = {
    "key": r"[A-Za-z0-9._-]{1,64}",
    "subject": r"(?:[A-Za-z0-9._~-]|%[0-9A-F]{2}){1,3060}",
    "roles": r"[a-z0-9-]{1,64}(?:\+[a-z0-9-]{1,64})*",
    "time": r"[1-9][0-9]{0,11}",
    "nonce": r"[A-Za-z0-9_-]{16,64}",
    "body": r"[0-9a-f]{64}",
    "signature": r"[0-9a-f]{64}",
}
_OPTIONAL: Final = {"roles"}


class InvalidSignatureError(InvalidCredentialError):
    """The signed request does not hold; the message is safe to show."""

    scheme, error = SCHEME, "invalid_signature"


@dataclass(frozen=True)
class SignedCredential:
    """What a proxy says of its request, as it stands in the header.

    Attributes:
        subject: For whom it asks, percent-encoded.
        roles: Joined by `+`; empty for none.
        time: Unix time of the signature.
        body: SHA-256 of the body, in hex.
    """

    key: str
    subject: str
    time: str
    nonce: str
    body: str
    signature: str
    roles: str = ""

    @property
    def subject_id(self) -> str:
        """The subject itself.

        Raises:
            InvalidSignatureError: It is none.
        """
        try:
            subject = unquote_to_bytes(self.subject).decode()
        except UnicodeDecodeError:
            subject = ""
        if not is_subject(subject):
            raise InvalidSignatureError("The subject is malformed.")
        return subject

    @property
    def role_names(self) -> frozenset[str]:
        """The roles by themselves."""
        return frozenset(self.roles.split("+")) - {""}


def read_credential(text: str) -> SignedCredential:
    """Read what follows the scheme: `name=value` for each value, between them a comma and maybe a space.

    Raises:
        InvalidSignatureError: A value is missing, there twice, unknown or malformed.
    """
    if len(text) > MAX_CREDENTIAL_CHARS:
        raise InvalidSignatureError(f"The credential is longer than {MAX_CREDENTIAL_CHARS} characters.")
    values: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = part.strip(" ").partition("=")
        if name not in _VALUES or name in values or not re.fullmatch(_VALUES[name], value):
            raise InvalidSignatureError("The credential is malformed: see its form in the documentation.")
        values[name] = value
    missing = _VALUES.keys() - _OPTIONAL - values.keys()
    if missing:
        raise InvalidSignatureError(f"The credential lacks {', '.join(sorted(missing))}.")
    credential = SignedCredential(**values)
    if credential.roles.count("+") >= MAX_ROLES:
        raise InvalidSignatureError(f"The credential has more than {MAX_ROLES} roles.")
    return credential


def signed_text(service: str, method: str, path: bytes, query: bytes, credential: SignedCredential) -> bytes:
    r"""Give what is signed: eleven lines, with `\n` between them and none behind the last.

    Args:
        service: Whom the request is for.
        method: As it was sent.
        path: Likewise, percent-encoding and all.
        query: What follows the `?`, likewise.
        credential: The rest.
    """
    head = [SCHEME, service, method]
    tail = [credential.body, credential.key, credential.time, credential.nonce, credential.subject, credential.roles]
    return b"\n".join([*(line.encode() for line in head), path, query, *(line.encode() for line in tail)])


def sign(secret: bytes, text: bytes) -> str:
    """Sign a text with HMAC-SHA256, in hex."""
    return hmac.new(secret, text, hashlib.sha256).hexdigest()
