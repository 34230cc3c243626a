"""What takes minutes runs when it is asked for, even where all it needs happens to be there."""

import os

import pytest


def require_asked(where: str) -> None:
    """Skip unless `make test-k8s` is at work."""
    if not os.environ.get("TASKWIRE_TEST_K8S"):
        pytest.skip(f"NOT CHECKED {where}: make test-k8s does that")
