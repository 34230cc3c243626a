"""What a test found out and has to say even when all is well."""

from typing import Final

import pytest

TOLD: Final = pytest.StashKey[list[str]]()
"""Lines for the end of the run, where nothing is captured."""
