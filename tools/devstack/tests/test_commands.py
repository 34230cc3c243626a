import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from jose import jwt

from devstack.__main__ import main
from devstack.credentials import Credentials
from devstack.layout import Layout, Ports
from devstack.screen import age, status_table, welcome
from devstack.state import StackReport


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("JSON", "SERVICE", "SQL", "FOLLOW", "ROLES", "PART", "TASKWIRE_PORT_BASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TASKWIRE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TASKWIRE_ENV_FILE", os.devnull)
    return tmp_path / "home"


def test_status_of_nothing_is_an_answer_too(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert main(["status", "--json"]) == 0

    sentence, line = capsys.readouterr().out.splitlines()
    assert sentence == f"Taskwire is not running in {home}. Start it: make up"
    assert json.loads(line) == {"running": False, "services": {}, "home": str(home)}


def test_down_of_nothing_says_so_and_is_fine(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down"]) == 0

    assert capsys.readouterr().out == f"Taskwire is not running in {home}.\n"


def test_a_state_file_without_a_living_supervisor_is_not_believed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "run").mkdir(parents=True)
    (home / "run" / "lock").write_text("1\n")
    (home / "run" / "state.json").write_text(json.dumps({"running": True, "state": "running"}))

    main(["status"])

    assert "not running" in capsys.readouterr().out


def test_a_token_is_all_that_is_printed(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir()
    credentials = Credentials.ensure(home / "credentials.json", [])
    monkeypatch.setenv("USER", "ada")
    monkeypatch.setenv("ROLES", "admin, auditor")

    assert main(["token"]) == 0

    captured = capsys.readouterr()
    claims = jwt.decode(captured.out.strip(), credentials.auth_secret, ["HS256"], audience="taskwire")
    assert (claims["sub"], claims["roles"]) == ("ada", ["admin", "auditor"])
    assert captured.err == ""


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["token"], "No token can be made: no stack was ever started in "),
        (["demo"], "The demo needs a running stack: none runs in "),
        (["psql"], "There is nothing to ask: no service was named; these are: task-api, audit-worker, notifier. "),
        (["psql", "--service", "kafka"], "There is nothing to ask: 'kafka' is no service; these are: task-api, "),
        (["psql", "--service", "notifier"], "There is no database: no stack runs in "),
        (["logs"], "No part was named: these have one: none yet. Name one: make logs SERVICE=task-api"),
        (["stop", "--part", "kafka"], "The stack cannot be asked: it is not running. Start it with make up."),
    ],
)
def test_a_command_that_needs_a_stack_says_how_to_get_one(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1

    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.out == ""


def test_the_end_of_a_log_is_shown(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "logs").mkdir(parents=True)
    (home / "logs" / "kafka.log").write_text("".join(f"line {number}\n" for number in range(300)))

    assert main(["logs", "--service", "kafka"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert main(["logs", "--service", "redis"]) == 1

    assert (len(shown), shown[0], shown[-1]) == (200, "line 100", "line 299")
    assert "There is no log of 'redis': these have one: kafka." in capsys.readouterr().err


def test_a_followed_log_shows_what_comes(home: Path) -> None:
    log = home / "logs" / "kafka.log"
    log.parent.mkdir(parents=True)
    log.write_text("before\n")
    follower = subprocess.Popen(
        [sys.executable, "-m", "devstack", "logs", "--service", "kafka", "--follow"], stdout=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    with follower.stdout:
        assert follower.stdout.readline() == "before\n"
        # Only once it has read to the end of the file is a new line one that came while it followed.
        while not _has_open(follower.pid, log):
            time.sleep(0.01)
        with log.open("a") as file:
            file.write("after\n")
        assert follower.stdout.readline() == "after\n"
        follower.terminate()
        follower.wait()


def _has_open(pid: int, path: Path) -> bool:
    return any(file.path == str(path) for file in psutil.Process(pid).open_files())


def test_reset_deletes_the_data_and_says_what(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = Layout(home, home / "cache", Ports(8000))
    layout.make_directories()
    (layout.data / "kafka").mkdir()
    Credentials.ensure(layout.credentials_file, [])
    (layout.cache / "jar").write_text("kept")

    assert main(["reset"]) == 0

    assert f"Deleted {layout.data}\n" in capsys.readouterr().out
    assert not layout.data.exists()
    assert not layout.credentials_file.exists()
    assert (layout.cache / "jar").exists()
    assert main(["reset"]) == 0
    assert "nothing to delete" in capsys.readouterr().out


def test_the_welcome_names_the_three_urls_and_a_line_to_paste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    standard = Layout.from_environment({})
    other = Layout.from_environment({"TASKWIRE_HOME": "/srv/two", "TASKWIRE_PORT_BASE": "18000"})

    first, second = welcome(standard, foreground=True), welcome(other, foreground=False)

    for url in ("http://127.0.0.1:8000", "http://127.0.0.1:8001", "http://127.0.0.1:8002"):
        assert url in first
    assert "TASKWIRE_" not in first
    assert "Ctrl-C" in first
    assert "make down TASKWIRE_HOME=/srv/two TASKWIRE_PORT_BASE=18000" in second
    pasted = next(line for line in second.splitlines() if line.startswith("curl"))
    assert "token USER=alice TASKWIRE_HOME=/srv/two TASKWIRE_PORT_BASE=18000)" in pasted


def report() -> StackReport:
    service = {"url": "http://127.0.0.1:8000", "pid": 5, "dapr_pid": 6, "dapr_http": 8010, "dapr_grpc": 8020}
    services = {name: {**service, "postgres": "postgresql://u:p@127.0.0.1:8060/u"} for name in NAMES}
    part = {"state": "ready", "pid": 5, "started_at": 1.0, "restarts": 0, "log": "/log"}
    parts = {name: dict(part) for name in (*NAMES, *(f"daprd-{name}" for name in NAMES), "kafka", "postgres")}
    parts["kafka"] |= {"state": "restarting", "pid": None, "started_at": None, "restarts": 3}
    raw = {"running": True, "state": "running", "services": services, "kafka": "127.0.0.1:8050", "kafka_pid": None}
    raw |= {"postgres_pid": 5, "supervisor_pid": 1, "home": "/srv", "port_base": 8000, "parts": parts}
    typed: StackReport = json.loads(json.dumps(raw))
    return typed


NAMES = ("task-api", "audit-worker", "notifier")


def test_the_table_shows_a_line_per_part_and_who_does_not_answer() -> None:
    well = dict.fromkeys(report()["parts"], True) | {"notifier": False}

    lines = status_table(report(), well).splitlines()

    rows = {line.split()[0]: line for line in lines[1:9]}
    assert len(rows) == 8
    assert "not answering" in rows["notifier"]
    assert rows["kafka"].split() == ["kafka", "restarting", "-", "-", "3", "127.0.0.1:8050"]
    assert "127.0.0.1:8060" in rows["postgres"]
    assert ":p@" not in "".join(lines)


@pytest.mark.parametrize(("seconds", "text"), [(5, "5s"), (65, "1m"), (7_300, "2h"), (200_000, "2d")])
def test_ages_read_naturally(seconds: int, text: str) -> None:
    assert age(seconds) == text


def test_a_closed_pipe_is_no_failure(home: Path) -> None:
    (home / "logs").mkdir(parents=True)
    (home / "logs" / "kafka.log").write_text("x" * 100 + "\n")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        done = subprocess.run(
            [sys.executable, "-m", "devstack", "logs", "--service", "kafka"], stdout=output, stderr=subprocess.PIPE
        )

    assert (done.returncode, done.stderr) == (0, b"")
