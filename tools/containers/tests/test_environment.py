"""`make compose-env`: random secrets, made once."""

import stat
from pathlib import Path

from containers.environment import complete, read, required_variables

SHORTEST = 43  # 32 bytes, as base64


def test_a_new_file_has_a_random_value_for_each_variable_and_is_private(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    assert complete(file) == required_variables()
    made = read(file)
    assert set(made) == set(required_variables())
    assert len(set(made.values())) == len(made)
    assert min(map(len, made.values())) >= SHORTEST
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_a_file_has_stays_and_what_is_missing_or_empty_is_added(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    kept = "# mine\nTASKWIRE_LOG_LEVEL=DEBUG\nPOSTGRES_PASSWORD=chosen\nTOKEN_SECRET="
    file.write_text(kept)
    added = complete(file)
    assert file.read_text().startswith(kept + "\n")
    assert "POSTGRES_PASSWORD" not in added
    assert "TOKEN_SECRET" in added
    assert read(file)["POSTGRES_PASSWORD"] == "chosen"
    assert len(read(file)["TOKEN_SECRET"]) >= SHORTEST
    before = file.read_text()
    assert complete(file) == []
    assert file.read_text() == before


def test_values_are_read_as_compose_reads_them(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("A=plain\nB=\"in quotes\"\nexport C='single'\nD=word # said beside it\nE=\n# F=no\nG=a$b\n")
    assert read(file) == {"A": "plain", "B": "in quotes", "C": "single", "D": "word", "G": "a$b"}
    assert read(tmp_path / "missing") == {}
