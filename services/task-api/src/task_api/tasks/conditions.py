"""Entity tags and the conditions a request may put on them (RFC 9110, sections 8.8.3 and 13)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chassis.errors import ApiError, FieldProblem, InvalidInputError

_WEAK: Final = "W/"
_NEXT_TAG = re.compile(r'[ \t,]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|$)')


class PreconditionFailedError(ApiError):
    """It has changed since the caller saw it (`If-Match`, or `version` in a bulk)."""

    status, code = 412, "precondition_failed"


def etag_of(task_id: int | None, version: int) -> str:
    """Give the strong entity tag of one version of a task: no two versions of any two tasks share one."""
    return f'"{task_id}-{version}"'


@dataclass(frozen=True)
class TagList:
    """What one conditional header names: some tags, or `*` for whatever there is."""

    tags: frozenset[str]
    anything: bool = False

    def matches_strongly(self, etag: str) -> bool:
        """Compare as `If-Match` does: a weak tag never matches."""
        return self.anything or etag in self.tags

    def matches_weakly(self, etag: str) -> bool:
        """Compare as `If-None-Match` does: weak or strong makes no difference."""
        return self.anything or etag in {tag.removeprefix(_WEAK) for tag in self.tags}


def read_tags(header: str, lines: Sequence[str]) -> TagList | None:
    """Read the lines of a conditional header; None when there are none.

    Raises:
        InvalidInputError: It is not a list of entity tags.
    """
    if not lines:
        return None
    text = ",".join(lines)
    if text.strip() == "*":
        return TagList(frozenset(), anything=True)
    tags, position = set(), 0
    while found := _NEXT_TAG.match(text, position):
        tags.add(found[1])
        position = found.end()
    if not tags or text[position:].strip(" \t,"):
        message = 'must be * or a list of entity tags in quotes, e.g. "7-3"'
        problem = FieldProblem(field=f"header.{header}", message=message)
        raise InvalidInputError(f"{problem.field}: {message}", errors=[problem])
    return TagList(frozenset(tags))


@dataclass(frozen=True)
class Preconditions:
    """What a request demands of the state it meets."""

    if_match: TagList | None = None
    if_none_match: TagList | None = None

    def check_write(self, etag: str, *, what: str = "task") -> None:
        """Let a write pass, or refuse it.

        Raises:
            PreconditionFailedError: It is not as the caller saw it.
        """
        self._check_match(etag, what)
        if self.if_none_match is not None and self.if_none_match.matches_weakly(etag):
            raise PreconditionFailedError(f"If-None-Match names what is there: the {what} is at {etag}.")

    def is_fresh(self, etag: str, *, what: str = "task") -> bool:
        """Tell whether a reader has this already.

        Raises:
            PreconditionFailedError: It is not as the caller demands.
        """
        self._check_match(etag, what)
        return self.if_none_match is not None and self.if_none_match.matches_weakly(etag)

    def _check_match(self, etag: str, what: str) -> None:
        if self.if_match is not None and not self.if_match.matches_strongly(etag):
            raise PreconditionFailedError(
                f"The {what} was changed meanwhile and is at {etag}: read it and decide again."
            )
