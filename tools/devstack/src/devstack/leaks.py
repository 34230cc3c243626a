"""Secrets in logs: finds where a part of a stack wrote what it must never write."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SHOWN: Final = 60
_MASKED: Final = 4_096
_MASK: Final = "[…]".encode()
# What looks like a credential, whoever made it: a JWT, what follows "Bearer", and whatever begins as ours do.
_SHAPES: Final[Mapping[str, bytes]] = {
    "a JWT": rb"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}",
    "a bearer token": rb"(?i:bearer) +[A-Za-z0-9._~+/=-]{16,}",
    "a token of ours": rb"\btw[a-z]+_[A-Za-z0-9_-]{20,}",
}

_SHAPED: Final = re.compile(b"|".join(_SHAPES.values()))
_HEAD: Final = 16
_WORD: Final = re.compile(rb"[A-Za-z0-9._~+/=-]{%d,}" % _HEAD)


@dataclass(frozen=True)
class Leak:
    """A secret in what a part wrote.

    Attributes:
        place: The part, or what else it was found in.
        line: Its number, from 1.
        what: Which secret.
        around: What stands beside it, masked.
    """

    place: str
    line: int
    what: str
    around: str

    def told(self) -> str:
        """Say it in one line, without the secret."""
        return f"{self.place}, line {self.line}: {self.what}: {self.around}"


class LeakedSecretsError(AssertionError):
    """A stack wrote secrets into its logs or traces."""

    def __init__(self, leaks: Iterable[Leak]) -> None:
        super().__init__("secrets were written where they do not belong:\n" + "\n".join(leak.told() for leak in leaks))


def find_in_logs(files: Iterable[Path], secrets: Mapping[str, str]) -> list[Leak]:
    """Look for secrets in log files; `secrets` has what each one is by its value."""
    return [leak for file in files for leak in find(file.stem, file.read_bytes(), secrets)]


def find(place: str, written: bytes, secrets: Mapping[str, str]) -> list[Leak]:
    """Look for secrets, and for what looks like one, in what was written; one leak for each line and secret."""
    names = {secret.encode(): what for secret, what in secrets.items()}
    if not _SHAPED.search(written) and not _has_any(written, names):
        return []
    known = [re.escape(secret) for secret in sorted(names, key=len, reverse=True)]
    pattern = re.compile(b"|".join([*known, *_SHAPES.values()]))
    found: dict[tuple[int, str], Leak] = {}
    for match in pattern.finditer(written):
        line = written.count(b"\n", 0, match.start()) + 1
        what = names.get(match[0]) or next(name for name, shape in _SHAPES.items() if re.fullmatch(shape, match[0]))
        found.setdefault((line, what), Leak(place, line, what, _around(written, match, pattern)))
    return list(found.values())


def _has_any(written: bytes, secrets: Collection[bytes]) -> bool:
    """Tell whether one of these is somewhere in a text, in a time that hardly depends on how many they are.

    A run of the tests makes thousands of tokens and writes a hundred megabytes; `re` tries one by one at each byte.
    """
    plain = {secret for secret in secrets if len(secret) >= _HEAD and _WORD.fullmatch(secret)}
    heads = {secret[:_HEAD] for secret in plain}
    if any(secret in written for secret in secrets if secret not in plain):
        return True
    # Whatever has a secret in it is a word that is at least as long, and the same words are written again and again.
    for word in set(_WORD.findall(written)):
        for at in range(len(word) - _HEAD + 1):
            if word[at : at + _HEAD] in heads and any(word.startswith(secret, at) for secret in plain):
                return True
    return False


def _around(written: bytes, match: re.Match[bytes], pattern: re.Pattern[bytes]) -> str:
    # Masked before it is cut, so that no secret is cut in two and its rest shown.
    before = written[max(0, match.start() - _MASKED) : match.start()].rpartition(b"\n")[2]
    after = written[match.end() : match.end() + _MASKED].partition(b"\n")[0]
    left, right = (pattern.sub(_MASK, side).decode(errors="replace") for side in (before, after))
    return f"{left[-_SHOWN:]}{_MASK.decode()}{right[:_SHOWN]}"
