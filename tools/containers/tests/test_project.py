"""How Compose is driven: with all words of $DOCKER, without the settings of whoever runs the tests."""

from pathlib import Path

import pytest

from containers.project import LostPortError, Project
from devstack.failures import ProvisionError


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a program in the place of Docker was told, and found around itself; it fails with the words in `fails`."""
    program, said = tmp_path / "not docker", tmp_path / "said"
    program.write_text(
        f"#!/bin/sh\n{{ echo \"$@\"; env; }} > '{said}'\n"
        f"[ ! -e '{tmp_path}/fails' ] || {{ cat '{tmp_path}/fails' >&2; exit 1; }}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("DOCKER", f"'{program}' --context elsewhere")
    return said


def project(directory: Path) -> Project:
    return Project(directory / "override.yml", directory / "compose.env")


def test_all_words_of_docker_are_said_and_no_setting_of_ours_goes_along(
    tmp_path: Path, said: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TOKEN_SECRET", "TASKWIRE_PORT_PREFIX", "TASKWIRE_LOG_LEVEL", "COMPOSE_PROFILES", "OUTER"):
        monkeypatch.setenv(name, "outer")
    project(tmp_path).start()
    words, *environment = said.read_text().splitlines()
    assert words.startswith("--context elsewhere compose --file ")
    assert words.endswith(f"--file {tmp_path}/override.yml --env-file {tmp_path}/compose.env up --wait")
    assert [line for line in environment if line.endswith("=outer")] == ["OUTER=outer"]


def test_a_port_that_was_lost_is_another_failure_than_a_missing_image(tmp_path: Path, said: Path) -> None:
    del said
    fails = tmp_path / "fails"
    fails.write_text("Bind for 127.0.0.1:20100 failed: port is already allocated\n")
    with pytest.raises(LostPortError, match="docker compose up failed"):
        project(tmp_path).start()
    fails.write_text("pulling\npull access denied for taskwire/task-api\n")
    with pytest.raises(ProvisionError, match="pull access denied") as failure:
        project(tmp_path).start()
    assert not isinstance(failure.value, LostPortError)
    assert failure.value.__notes__ == ["pulling", "pull access denied for taskwire/task-api"]
