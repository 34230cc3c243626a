import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from devstack.process import Command, describe_exit, log_tail, open_log, popen, run, spawn

FOREVER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


def command(argv: list[str], directory: Path) -> Command:
    return Command(argv, dict(os.environ), directory)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def eventually_gone(pid: int) -> bool:
    deadline = time.monotonic() + 90
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return gone(pid)


async def test_what_a_process_says_goes_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "part.log"

    process = await spawn(
        command([sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr)"], tmp_path), log
    )

    assert await process.wait() == 0
    assert sorted(log_tail(log, 5)) == ["err", "out"]


async def test_a_process_leads_a_session_of_its_own(tmp_path: Path) -> None:
    process = await spawn(command(FOREVER, tmp_path), tmp_path / "part.log")
    try:
        assert os.getsid(process.pid) == process.pid
    finally:
        process.kill()
        await process.wait()


def test_a_process_dies_with_the_one_that_started_it(tmp_path: Path) -> None:
    program = (
        "import time; from pathlib import Path; from devstack.process import Command, popen\n"
        f"child = popen(Command({FOREVER!r}, {{}}, Path('/')), Path({str(tmp_path / 'child.log')!r}))\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
        while log_tail(tmp_path / "child.log", 1) != ["up"]:
            time.sleep(0.01)

        parent.kill()
        parent.wait()

    assert eventually_gone(child)


def test_a_program_that_is_not_there_fails_in_words(tmp_path: Path) -> None:
    done = run(command(["/nowhere/program"], tmp_path), timeout=90)

    assert done.returncode != 0
    assert "/nowhere/program" in done.stdout or "No such file" in done.stdout


def test_a_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run(command(FOREVER, tmp_path), timeout=0.5)


def test_a_log_that_has_grown_large_is_set_aside(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    log.write_bytes(b"x" * (10 * 1024 * 1024 + 1))

    with open_log(log) as output:
        output.write(b"fresh\n")

    assert log.read_text() == "fresh\n"
    assert (tmp_path / "part.log.1").stat().st_size > 10 * 1024 * 1024


def test_the_end_of_a_log_is_its_last_lines_that_say_something(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    log.write_text("one\ntwo\n\n  \nthree\n\n")

    assert log_tail(log, 2) == ["two", "three"]
    assert log_tail(tmp_path / "missing.log", 2) == []


def test_the_tail_has_as_many_whole_lines_as_are_asked_for_however_long_they_are(tmp_path: Path) -> None:
    log, lines = tmp_path / "long.log", [f"{number:03d}" + "ä" * 30_000 for number in range(40)]
    log.write_text("\n".join(lines))
    assert log_tail(log, 10) == lines[-10:]
    assert log_tail(log, 1_000) == lines


@pytest.mark.parametrize(
    ("code", "text"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "killed by SIGKILL"), (-99, "killed by signal 99")]
)
def test_an_exit_code_reads_naturally(code: int, text: str) -> None:
    assert describe_exit(code) == text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_under_root_a_server_can_run_as_nobody_in_a_private_directory(tmp_path: Path) -> None:
    from devstack.privileges import unprivileged

    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "data").mkdir(mode=0o755)
    (private / "data" / "file").write_text("reached")
    (private / "data" / "file").chmod(0o644)
    identity = unprivileged(private / "data" / "file")
    assert identity is not None
    show = f"import os; print(os.geteuid(), open({str(private / 'data' / 'file')!r}).read())"

    done = await asyncio.to_thread(
        run, Command([sys.executable, "-S", "-c", show], {}, Path("/"), identity), timeout=90
    )

    assert done.stdout.split() == [str(identity.uid), "reached"]
    assert identity.uid != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_no_capability_is_kept_where_none_is_needed() -> None:
    from devstack.privileges import unprivileged

    identity = unprivileged(Path("/usr/bin/env"))

    assert identity is not None
    assert identity.capability is None


def test_popen_takes_the_signal_it_is_sent(tmp_path: Path) -> None:
    process = popen(command(FOREVER, tmp_path), tmp_path / "part.log")

    process.send_signal(signal.SIGTERM)

    assert process.wait(90) == -signal.SIGTERM
