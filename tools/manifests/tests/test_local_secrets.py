"""The secrets of the local overlay."""

from pathlib import Path

from manifests import local_secrets


def test_they_are_written_once_whole_and_for_their_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"

    assert local_secrets.write(directory)
    before = {path.name: path.read_text() for path in directory.iterdir()}
    assert not local_secrets.write(directory)

    assert {path.name: path.read_text() for path in directory.iterdir()} == before
    assert {path.stat().st_mode & 0o777 for path in [directory, *directory.iterdir()]} == {0o700, 0o600}
    assert list(tmp_path.iterdir()) == [directory]


def test_no_value_is_there_twice_but_the_passwords_in_their_urls() -> None:
    made = local_secrets.made()
    values = [value for one in made.values() for value in one.values()]
    assert len(set(values)) == len(values)
    for service in local_secrets.SERVICES:
        password = made["postgres"][f"{service.replace('-', '_')}_password"]
        assert f":{password}@" in made[service]["TASKWIRE_DATABASE_URL"]
