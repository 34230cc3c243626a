from pathlib import Path

import pytest

from devstack.failures import ProvisionError
from devstack.layout import Layout, Ports


def test_every_port_follows_from_the_base() -> None:
    ports = Ports(8000)

    assert [ports.app(index) for index in range(3)] == [8000, 8001, 8002]
    assert [ports.dapr_http(index) for index in range(3)] == [8010, 8011, 8012]
    assert [ports.dapr_grpc(index) for index in range(3)] == [8020, 8021, 8022]
    assert [ports.dapr_internal(index) for index in range(3)] == [8030, 8031, 8032]
    assert [ports.dapr_metrics(index) for index in range(3)] == [8040, 8041, 8042]
    assert (ports.kafka, ports.kafka_controller, ports.postgres) == (8050, 8051, 8060)


def test_home_cache_and_ports_come_from_the_environment() -> None:
    layout = Layout.from_environment(
        {"TASKWIRE_HOME": "/srv/one", "TASKWIRE_CACHE": "/srv/cache", "TASKWIRE_PORT_BASE": "18000"}
    )

    assert layout == Layout(Path("/srv/one"), Path("/srv/cache"), Ports(18000))


def test_without_settings_everything_lies_below_the_users_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")

    layout = Layout.from_environment({})

    assert layout.home == Path("/home/ada/.local/share/taskwire")
    assert layout.cache == Path("/home/ada/.cache/taskwire")
    assert layout.ports.base == 8000


@pytest.mark.parametrize("base", ["eight", "80", "65500", "-1"])
def test_a_port_base_that_cannot_work_is_refused_with_a_suggestion(base: str) -> None:
    with pytest.raises(ProvisionError, match=rf"TASKWIRE_PORT_BASE.*{base}.*between 1024 and 65475"):
        Layout.from_environment({"TASKWIRE_PORT_BASE": base})


def test_directories_are_for_their_owner_only(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "home", tmp_path / "cache", Ports(8000))

    layout.make_directories()

    modes = {path.stat().st_mode & 0o777 for path in (layout.home, layout.data, layout.run, layout.logs, layout.cache)}
    assert modes == {0o700}


def test_a_home_that_cannot_be_created_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ProvisionError, match="file/home could not be created: Not a directory.*TASKWIRE_HOME"):
        Layout(tmp_path / "file" / "home", tmp_path, Ports(8000)).make_directories()
