"""No service of these tests ends its work because the machine is slow."""

import pytest

from chassis.testing import take_all_the_time_there_is


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    take_all_the_time_there_is(monkeypatch)
