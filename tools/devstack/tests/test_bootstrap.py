import importlib.util
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from devstack.layout import REPOSITORY

SCRIPT = REPOSITORY / "tools" / "bootstrap" / "prepare.py"


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("TASKWIRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("UV", raising=False)
    return module


def program(path: Path, says: str, code: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_an_old_python_is_told_what_to_do(prepare: ModuleType) -> None:
    with pytest.raises(prepare.SetupError, match=r"needs Python 3\.11 or newer: .* is 3\.9\. .*PYTHON=python3\.11"):
        prepare.require_python((3, 9))


@pytest.mark.parametrize("version", [(3, 11), (3, 13), (4, 0)])
def test_a_newer_python_will_do(prepare: ModuleType, version: tuple[int, int]) -> None:
    prepare.require_python(version)


def test_uv_is_taken_from_where_it_is(prepare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = program(tmp_path / "named" / "uv", "uv 99.0.0")
    on_path = program(tmp_path / "bin" / "uv", "uv 99.0.0")
    cached = program(tmp_path / "cache" / "uv" / "bin" / "uv", "uv 99.0.0")
    monkeypatch.setenv("PATH", f"{on_path.parent}:/usr/bin:/bin")
    monkeypatch.setenv("UV", str(named))

    assert prepare.ensure_uv() == named
    monkeypatch.delenv("UV")
    assert prepare.ensure_uv() == on_path
    on_path.unlink()
    assert prepare.ensure_uv() == cached


@pytest.mark.parametrize(("says", "code"), [("uv 0.10.9", 0), ("uv 99.0.0", 1), ("no version at all", 0)])
def test_a_uv_that_is_too_old_or_broken_is_passed_over(
    prepare: ModuleType, tmp_path: Path, says: str, code: int
) -> None:
    assert not prepare.uv_is_usable(program(tmp_path / "uv", says, code))
    assert not prepare.uv_is_usable(tmp_path / "missing")


def test_a_python_without_pip_and_venv_is_told_what_to_install(
    prepare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "_succeeds", lambda _: False)

    with pytest.raises(prepare.SetupError, match="neither pip nor .*apt-get install python3-venv.*or uv itself"):
        prepare.pip_python(tmp_path)


def test_a_failed_download_says_why_and_leaves_nothing(
    prepare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "pip_python", lambda _: str(program(tmp_path / "pip", "ERROR: no route to host", 1)))

    with pytest.raises(prepare.SetupError, match="uv could not be installed: no route to host. Check the network"):
        prepare.install_uv(prepare.cache() / "uv")

    assert [path.name for path in (tmp_path / "cache").iterdir()] == []


def test_no_file_of_the_bootstrap_names_a_registry() -> None:
    text = SCRIPT.read_text()

    assert not re.search(r"https?://", text)
    assert not re.search(r"https?://", (SCRIPT.parent / "requirements.txt").read_text())


def test_the_reason_given_is_the_error_with_its_innermost_cause(prepare: ModuleType) -> None:
    pip = "Collecting uv\nERROR: Could not find a version.\nERROR: No matching distribution\n  more detail\n"
    uv = "error: Failed to download `x`\n  cause: tunnel error\n  cause: Connection refused\n\nhint: something\n"

    assert prepare.reason(pip) == "Could not find a version"
    assert prepare.reason(uv) == "Failed to download `x`: Connection refused"
    assert prepare.reason("only this.\n") == "only this"
    assert prepare.reason("") == "no reason was given"


def test_uv_is_pinned_by_hash() -> None:
    text = (SCRIPT.parent / "requirements.txt").read_text()

    assert re.search(r"^uv==\d+\.\d+\.\d+ \\$", text, re.MULTILINE)
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text)) > 5


def test_a_synchronised_checkout_costs_nothing_and_says_nothing() -> None:
    done = subprocess.run([sys.executable, "-I", str(SCRIPT)], capture_output=True, text=True)
    again = subprocess.run(
        [sys.executable, "-I", str(SCRIPT)], capture_output=True, text=True, env={**os.environ, "PATH": "/nonexistent"}
    )

    assert done.returncode == 0
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_a_cache_that_cannot_be_made_is_explained(
    prepare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TASKWIRE_CACHE", str(tmp_path / "file" / "cache"))

    with pytest.raises(prepare.SetupError, match="could not be created: Not a directory. Choose another place"):
        prepare.cache()
