"""Look at the dead letters of a consumer and settle them, through its API."""

import argparse
import json
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from typing import Final

from devstack.commands.act import secret
from devstack.console import Console
from devstack.dead_letter_desk import DeadLetterDesk, Json
from devstack.failures import ProvisionError
from devstack.layout import Layout
from devstack.services import SERVICES
from devstack.state import RUNNING, read_report
from devstack.tokens import make_token

_OPERATOR: Final = "make-dlq"
_CONSUMERS: Final = tuple(service.app_id for service in SERVICES if service.consumes)
_REASON_WIDTH: Final = 90


def dlq(layout: Layout, options: argparse.Namespace, _: Console) -> int:
    """Look at the dead letters of the stack that `make up` has started, and settle them."""
    return settle(options, partial(_desk, layout))


def settle(options: argparse.Namespace, desk_of: Callable[[str], DeadLetterDesk]) -> int:
    """List open letters, or show, redrive or discard those that were named; 1 when a redrive failed.

    Args:
        options: What was chosen: service, id, redrive, discard, note; empty for what was not.
        desk_of: Gives the desk of a consumer, by its name.

    Raises:
        ProvisionError: Something else was chosen than there is, or the consumer refused.
    """
    services = [options.service] if options.service else list(_CONSUMERS)
    chosen = [name for name in ("id", "redrive", "discard") if getattr(options, name)]
    if chosen and not options.service:
        raise ProvisionError("each service has letters of its own", "none was named", _example(chosen[0]))
    if len(chosen) > 1:
        names = " and ".join(name.upper() for name in chosen)
        raise ProvisionError("one thing at a time", f"{names} were given", _example(chosen[0]))
    for name in services:
        if name not in _CONSUMERS:
            raise ProvisionError(f"{name!r} has no dead letters", f"these have: {', '.join(_CONSUMERS)}", "Name one")
    desks = {name: desk_of(name) for name in services}
    if not chosen:
        for name, desk in desks.items():
            _print_list(name, desk)
        return 0
    return _act(desks[options.service], options)


def _act(desk: DeadLetterDesk, options: argparse.Namespace) -> int:
    if options.id:
        (number,) = _numbers(options.id)
        sys.stdout.write(json.dumps(desk.show(number), indent=2, ensure_ascii=False) + "\n")
        return 0
    if options.discard:
        if not options.note:
            raise ProvisionError("nothing was discarded", "the note is missing that says why", _example("discard"))
        for number in _numbers(options.discard):
            desk.discard(number, options.note)
            sys.stdout.write(f"{number} discarded\n")
        return 0
    numbers = None if options.redrive == "all" else _numbers(options.redrive)
    outcomes = desk.redrive(numbers)
    sys.stdout.writelines(f"{_outcome(item)}\n" for item in outcomes)
    if not outcomes:
        sys.stdout.write("There are no open dead letters.\n")
    return 0 if all(item["outcome"] == "redriven" for item in outcomes) else 1


def _outcome(item: Json) -> str:
    detail = item["reason"] or (f"the inbox says {item['verdict']}" if item["verdict"] else "")
    return f"{item['id']} {item['outcome']}" + (f": {detail}" if detail else "")


def _print_list(service: str, desk: DeadLetterDesk) -> None:
    letters = desk.open_letters()
    if not letters:
        sys.stdout.write(f"{service}: no open dead letters\n")
        return
    sys.stdout.write(f"{service}: {len(letters)} open\n")
    for letter in letters:
        reason = textwrap.shorten(str(letter["reason"]), _REASON_WIDTH, placeholder="…")
        what = f"{letter['event_type'] or 'no event'} of task {letter['subject'] or '?'}"
        record = f"{letter['topic']}/{letter['partition']}/{letter['offset']}"
        sys.stdout.write(
            f"  {letter['id']}  {letter['last_failed_at']}  {record}  {what}, tried {letter['attempts']} x\n"
        )
        sys.stdout.write(f"      {reason}\n")


def _numbers(text: str) -> list[int]:
    words = text.replace(",", " ").split()
    if not words or not all(word.isascii() and word.isdigit() for word in words):
        raise ProvisionError("the letters are named by their numbers", f"{text!r} is none", _example("redrive"))
    return [int(word) for word in words]


def _desk(layout: Layout, service: str) -> DeadLetterDesk:
    report = read_report(layout)
    if report is None or report["state"] != RUNNING:
        raise ProvisionError("the dead letters are in a running stack", f"none runs in {layout.home}", "make up")
    return desk(report["services"][service]["url"], secret(layout))


def desk(url: str, signing_secret: str) -> DeadLetterDesk:
    """The desk of a consumer, with a token of an operator."""
    return DeadLetterDesk(url, make_token(signing_secret, _OPERATOR, ["admin"]))


def _example(action: str) -> str:
    rest = {"id": "ID=7", "redrive": "REDRIVE=7 (or all)", "discard": 'DISCARD=7 NOTE="why"'}[action]
    return f"For example: make dlq SERVICE={_CONSUMERS[0]} {rest}"
