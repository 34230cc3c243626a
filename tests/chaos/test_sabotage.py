"""The suite can fail: each well-known wrong design is noticed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.chaos.sabotage import WRONG_DESIGNS, WrongDesign

from devstack.layout import REPOSITORY


@pytest.mark.chaos
def test_every_wrong_design_is_noticed() -> None:
    # Several at once: they wait more than they work.
    # Each with the faults that break it; `make chaos SABOTAGE=all` has all the faults for each.
    command = [sys.executable, "-m", "tests.chaos", "--sabotage", "all", "--short", "--seed", "1", "--jobs", "3"]
    # What wrong designs execute is of no interest, and to measure it takes half of the machine.
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    ended = subprocess.run(command, cwd=REPOSITORY, env=unmeasured, capture_output=True, text=True, timeout=1800)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-15_000:]
    assert (
        f"{len(WRONG_DESIGNS)} of {len(WRONG_DESIGNS)} wrong designs were noticed; the design as it is held"
        in ended.stdout
    )


def test_sabotage_of_resources_that_have_changed_is_refused(tmp_path: Path) -> None:
    outdated = WrongDesign("outdated", "", frozenset(), (("pubsub.yaml", "no such line", ""),))
    with pytest.raises(ValueError, match="sabotage outdated must be adapted"):
        outdated.environment(tmp_path)
