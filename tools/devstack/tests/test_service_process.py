"""A service that does not start says why; that one does is seen in every test that uses it."""

import os
from pathlib import Path

import pytest

from devstack.failures import ProvisionError
from devstack.service_process import running_service


async def test_who_ends_before_it_is_ready_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError, match=r"json\.tool did not start \(exit code \d\).*No such file.*serve"):
        async with running_service("json.tool", {"PATH": os.environ["PATH"]}, tmp_path / "log"):
            pytest.fail("it is no service")
