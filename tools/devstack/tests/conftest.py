"""A machine on which nothing is installed yet, with a copy of daprd's sources to build."""

import shutil
from pathlib import Path

import pytest
from tools.devstack.tests.fake_programs import MODULE

from devstack import daprd_binary


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "module"
    shutil.copytree(MODULE, copy)
    monkeypatch.setattr(daprd_binary, "MODULE", copy)
    return copy


@pytest.fixture
def path_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory of ours on PATH, on a machine where Go, daprd and the Dapr CLI are not installed."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DAPRD", raising=False)
    monkeypatch.delenv("UV", raising=False)
    return directory


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"
