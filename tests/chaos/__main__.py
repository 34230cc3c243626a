"""`make chaos`: one run, or with `SABOTAGE=all` the proof that the suite notices wrong designs."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.chaos.report import sabotage_row, table
from tests.chaos.run import Plan, run
from tests.chaos.sabotage import CONTROL, WRONG_DESIGNS, WrongDesign
from tests.chaos.schedule import LEAST_KILLS

# With a wrong design, what is lost does not come, and what is stuck moves for ever. With the right one all comes to
# rest, on a slow machine later.
_PATIENCE: Final = 40.0
_DEADLINE: Final = 90.0
_DEADLINE_OF_CONTROL: Final = 900.0


def main() -> int:
    """Run; 0 when every invariant held, or when every wrong design was noticed."""
    options = _options()
    if options.sabotage:
        return _sabotage(options)
    plan = _plan(options)
    result = run(plan, {}, _say)
    sys.stdout.write(f"\n{table(result)}\n")
    if not result.held:
        again = f"make chaos SEED={plan.seed} MINUTES={options.minutes:g} KILLS={plan.kills}"
        sys.stdout.write(f"\nThe same schedule again: {again}\n")
    return 0 if result.held else 1


def _sabotage(options: argparse.Namespace) -> int:
    chosen = [design for design in (CONTROL, *WRONG_DESIGNS) if options.sabotage in {"all", design.name}]
    if not chosen:
        sys.stderr.write(f"no such sabotage; there are: all, {', '.join(design.name for design in WRONG_DESIGNS)}\n")
        return 2
    if len(chosen) == 1:
        return 0 if _is_as_expected(chosen[0], options) else 1
    # Each in a process of its own: a stack belongs to the process that started it.
    with ThreadPoolExecutor(options.jobs) as jobs:
        codes = list(jobs.map(lambda design: _in_its_own_process(design, options), chosen))
    noticed = codes[1:].count(0)
    held = "held" if codes[0] == 0 else "did not hold"
    sys.stdout.write(f"\n{noticed} of {len(WRONG_DESIGNS)} wrong designs were noticed; the design as it is {held}\n")
    return 0 if not any(codes) else 1


def _in_its_own_process(design: WrongDesign, options: argparse.Namespace) -> int:
    plan = ("--seed", options.seed, "--minutes", options.minutes, "--kills", options.kills, "--rate", options.rate)
    short = ["--short"] if options.short else []
    command = [sys.executable, "-m", "tests.chaos", "--sabotage", design.name, *short, *map(str, plan)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(ended.stdout)
    sys.stdout.flush()
    return ended.returncode


def _is_as_expected(design: WrongDesign, options: argparse.Namespace) -> bool:
    scenes = design.scenes if options.short else ()
    deadline = _DEADLINE_OF_CONTROL if design is CONTROL else _DEADLINE
    plan = replace(_plan(options), patience=_PATIENCE, deadline=deadline, scenes=scenes)
    with tempfile.TemporaryDirectory(prefix="taskwire-sabotage-") as home:
        result = run(plan, design.environment(Path(home)), lambda line: _say(f"{design.name}: {line}"))
    sys.stdout.write(f"{sabotage_row(design, result)}\n")
    return design.is_as_expected(result.violations)


def _options() -> argparse.Namespace:
    environment = os.environ
    sabotage = environment.get("SABOTAGE", "")
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(environment.get("SEED") or time.time_ns() % 100_000))
    parser.add_argument("--minutes", type=float, default=float(environment.get("MINUTES") or 0), help="3, sabotage 0.8")
    parser.add_argument("--kills", type=int, default=int(environment.get("KILLS") or 0))
    parser.add_argument("--rate", type=float, default=float(environment.get("RATE") or 20))
    parser.add_argument("--jobs", type=int, default=int(environment.get("JOBS") or 2), help="so many designs at once")
    parser.add_argument("--sabotage", default=sabotage, help="name of a wrong design, or all")
    parser.add_argument("--short", action="store_true", help="of each wrong design only what breaks it soon")
    options = parser.parse_args()
    options.minutes = options.minutes or (0.8 if options.sabotage else 3.0)
    return options


def _plan(options: argparse.Namespace) -> Plan:
    """By default one blow in 6 s, and each kind of blow at least once."""
    kills = options.kills or max(LEAST_KILLS, round(options.minutes * 10))
    return Plan(options.seed, options.minutes * 60, kills, options.rate)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
