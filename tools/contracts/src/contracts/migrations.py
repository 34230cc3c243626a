"""`make check`: does every migration let the release before run on, and let nobody wait (docs/migrations.md)?

The SQL is what Alembic renders for each revision, so what `op` makes of Python is looked at too. squawk knows which
statements of PostgreSQL lock or break; what it does not know is below.
"""

import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alembic.script import ScriptDirectory
from pydantic import BaseModel, TypeAdapter
from typing_extensions import override

from chassis.migrations import alembic_config, rendered

PACKAGES: Final = ("task_api", "audit_worker", "notifier")
EXCEPTIONS: Final = Path(__file__).with_name("migration_exceptions.toml")
POSTGRESQL: Final = "18"
_TIMEOUT: Final = 60.0
_NOT_OURS: Final[Mapping[str, str]] = {
    "require-lock-timeout": "the connection of every migration has one, chassis.migrations",
    "require-statement-timeout": "a migration takes what it takes, as long as it locks nobody out",
    "prefer-robust-stmts": "a revision is one transaction; where it is several, a test kills it half-way",
    "prefer-bigint-over-int": "for what is never many",
    "prefer-bigint-over-smallint": "for what is never many",
    "prefer-text-field": "a matter of the models",
    "prefer-identity": "a matter of the models",
    "prefer-timestamptz": "a matter of the models",
}
"""Rules of squawk that do not apply, and why."""
_OWN: Final[Mapping[str, tuple[re.Pattern[str], str]]] = {
    "rows-in-one-transaction": (
        # By itself, in a common table expression, or in a block of code.
        re.compile(r"^(UPDATE|DELETE|MERGE)\b|^(WITH|DO)\b.*\b(UPDATE|DELETE|MERGE)\b", re.IGNORECASE | re.DOTALL),
        "holds the lock of every row it changes until it ends: change them in batches, outside of the migration",
    ),
    "lock-table": (re.compile(r"^LOCK\b", re.IGNORECASE), "keeps the release before from writing"),
    "table-written-anew": (
        re.compile(r"^(CLUSTER|VACUUM\b.*\bFULL|REINDEX\b(?!.*\bCONCURRENTLY))\b", re.IGNORECASE | re.DOTALL),
        "keeps everybody from the table as long as it takes",
    ),
    "truncate": (re.compile(r"^TRUNCATE\b", re.IGNORECASE), "the release before misses the rows"),
    "drops-what-is-called": (
        re.compile(r"^DROP\s+(FUNCTION|PROCEDURE|ROUTINE|VIEW|MATERIALIZED|SEQUENCE|TYPE|SCHEMA)\b", re.IGNORECASE),
        "the release before may call it",
    ),
}
_NOTE: Final = re.compile(r"^\s*--")


class _Finding(BaseModel):
    """What squawk's JSON says of one."""

    file: str
    line: int
    message: str
    help: str | None
    rule_name: str


@dataclass(frozen=True)
class Breach:
    """A statement that must not be in a migration.

    Attributes:
        revision: Whose it is, e.g. `task_api 0002`.
        rule: That it breaks.
        statement: Its first line.
        why: What it does to those who use the database meanwhile.
    """

    revision: str
    rule: str
    statement: str
    why: str

    @override
    def __str__(self) -> str:
        return f"{self.revision}: {self.rule}: {self.statement[:100]}\n      {self.why}"


class Explained(BaseModel, extra="forbid", frozen=True):
    """Breaches that people have looked at: how many of one rule in one revision, and why they do no harm."""

    revision: str
    rule: str
    statements: int
    why: str


def revisions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Give the SQL of every revision of every service."""
    return {
        f"{package} {script.revision}": rendered(package, script.revision)
        for package in packages
        for script in reversed(list(ScriptDirectory.from_config(alembic_config(package)).walk_revisions()))
    }


def breaches(sql_of: Mapping[str, str]) -> list[Breach]:
    """Find what locks or breaks.

    Raises:
        RuntimeError: squawk did not run.
    """
    return [one for revision, sql in sql_of.items() for one in (*_squawk(revision, sql), *_own(revision, sql))]


def unexplained(found: Sequence[Breach], exceptions: Sequence[Explained]) -> list[str]:
    """Give what no exception explains, and the exceptions that explain nothing any more."""
    counts = Counter((one.revision, one.rule) for one in found)
    accepted = {(one.revision, one.rule): one.statements for one in exceptions}
    left = [str(one) for one in found if counts[one.revision, one.rule] > accepted.get((one.revision, one.rule), 0)]
    stale = [key for key, number in accepted.items() if counts[key] < number]
    left += [f"{revision}: {rule} is accepted more often than it is found" for revision, rule in stale]
    entries = Counter((one.revision, one.rule) for one in exceptions)
    return left + [f"{revision}: {rule} is accepted twice" for (revision, rule), n in entries.items() if n > 1]


def _squawk(revision: str, sql: str) -> list[Breach]:
    program = Path(sys.executable).with_name("squawk")
    options = [f"--pg-version={POSTGRESQL}", "--reporter=json", *(f"--exclude={rule}" for rule in _NOT_OURS)]
    done = subprocess.run(  # noqa: S603
        [str(program), *options], input=sql, capture_output=True, text=True, timeout=_TIMEOUT, check=False
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"squawk failed: {done.stderr.strip()}")
    lines = sql.splitlines()
    return [
        Breach(revision, one.rule_name, lines[one.line].strip(), one.help or one.message)
        for one in TypeAdapter(list[_Finding]).validate_json(done.stdout or "[]")
    ]


def _own(revision: str, sql: str) -> list[Breach]:
    statements = (
        "\n".join(line for line in part.splitlines() if not _NOTE.match(line)).strip() for part in sql.split(";\n")
    )
    return [
        Breach(revision, rule, statement.splitlines()[0], why)
        for statement in statements
        for rule, (begins, why) in _OWN.items()
        if begins.match(statement)
    ]


def accepted(file: Path = EXCEPTIONS) -> list[Explained]:
    """Read the exceptions."""
    return TypeAdapter(list[Explained]).validate_python(tomllib.loads(file.read_text())["accepted"])


def main() -> int:
    """Say what is wrong; returns the exit code."""
    found = unexplained(breaches(revisions()), accepted())
    for line in found:
        print(f"  \u2717 {line}", file=sys.stderr)  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
