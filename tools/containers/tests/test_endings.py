"""Which ends of a container count as unasked."""

from pathlib import Path

from containers.endings import Endings


def test_an_end_that_a_stop_follows_was_asked_for_and_one_by_a_signal_is_negative(tmp_path: Path) -> None:
    told = ["a1 die 0", "b2 die 1", "a1 die 137", "a1 die 0", "a1 stop <no value>", "b2 stop <no value>", "a1 die 3"]
    file = tmp_path / "events"
    file.write_text("".join(f"{line}\n" for line in told))
    endings = Endings("any", file)
    assert endings.exit_codes("a1") == [0, -9, 3]
    assert endings.exit_codes("b2") == []
    assert endings.exit_codes("c3") == []
