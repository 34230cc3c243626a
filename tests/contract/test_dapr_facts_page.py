"""Every fact in docs/dapr-facts.md names a test that exists."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "dapr-facts.md").read_text(encoding="utf-8")
FACTS: Final = re.findall(r"^\| (?!fact |---)(.*?) \| .* \| (.*?) \|$", PAGE, re.MULTILINE)


def test_the_table_can_be_read() -> None:
    assert len(FACTS) == PAGE.count("\n| ") - 1


@pytest.mark.parametrize(("fact", "test"), FACTS)
def test_every_fact_names_its_test(fact: str, test: str) -> None:
    if test == "the same":
        return
    file, name = re.findall(r"`([^`]+)`", test)
    assert f"def {name}(" in (ROOT / "tests" / "e2e" / file).read_text(encoding="utf-8"), fact
