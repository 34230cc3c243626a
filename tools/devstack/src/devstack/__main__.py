"""`python -m devstack …`: what the Makefile calls."""

import argparse
import os
import sys
from collections.abc import Sequence

from devstack import commands
from devstack.console import Console
from devstack.control import ControlError
from devstack.failures import ProvisionError
from devstack.signals import Stopped


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    console = Console.on(sys.stderr)
    try:
        return commands.dispatch(options, console)
    except (ProvisionError, ControlError) as error:
        console.failure(_sentence(str(error)))
        for note in getattr(error, "__notes__", []):
            console.say(f"  | {note}")
        return 1
    except (KeyboardInterrupt, Stopped):
        console.say("Stopped.")
        return 130
    except BrokenPipeError:
        # `make logs | head` closed its end; that is no failure of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _parser() -> argparse.ArgumentParser:
    # `make token USER=alice` reaches us as an environment variable: nothing to quote, nothing to inject.
    setting = os.environ.get
    parser = argparse.ArgumentParser(prog="devstack", description="The real Taskwire stack on one machine")
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="prepare and start everything; Ctrl-C ends it")
    run.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    verbs.add_parser("up", help="start in the background; returns when everything is ready")
    verbs.add_parser("down", help="end what runs in the background")
    verbs.add_parser("reset", help="end it and delete its data")
    status = verbs.add_parser("status", help="what runs where")
    status.add_argument("--json", action="store_true", default=_is_set(setting("JSON")))
    logs = verbs.add_parser("logs", help="the last lines of a part's log")
    logs.add_argument("--service", default=setting("SERVICE", ""))
    logs.add_argument("--follow", action="store_true", default=_is_set(setting("FOLLOW")))
    psql = verbs.add_parser("psql", help="ask the database of a service")
    psql.add_argument("--service", default=setting("SERVICE", ""))
    psql.add_argument("--sql", default=setting("SQL", ""))
    token = verbs.add_parser("token", help="a token for the services of this stack")
    token.add_argument("--user", default=setting("USER") or "alice")
    token.add_argument("--roles", default=setting("ROLES", ""))
    verbs.add_parser("demo", help="the story of one task, step by step")
    dlq = verbs.add_parser("dlq", help="list, show, redrive and discard dead letters")
    for name in ("service", "id", "redrive", "discard", "note"):
        dlq.add_argument(f"--{name}", default=setting(name.upper(), ""))
    backup = verbs.add_parser("backup", help="dump the databases of a running stack")
    backup.add_argument("--to", default=setting("TO", ""))
    restore = verbs.add_parser("restore", help="put a backup back, and compare")
    restore.add_argument("--backup", default=setting("FROM", ""))
    for verb in ("stop", "start", "wait"):
        part = verbs.add_parser(verb, help=f"{verb} one part of a running stack")
        part.add_argument("--part", default=setting("PART", ""))
    return parser


def _is_set(value: str | None) -> bool:
    return (value or "").lower() not in ("", "0", "no", "false")


if __name__ == "__main__":
    sys.exit(main())
