import asyncio
from pathlib import Path

import pytest

from devstack.control import ControlError, ask, listening
from devstack.failures import ProvisionError


class Recorder:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def handle(self, verb: str, part: str) -> None:
        if part == "nobody":
            raise ControlError("there is no part 'nobody'")
        if part == "never":
            await asyncio.sleep(600)
        self.asked.append((verb, part))


async def test_a_request_is_answered_when_it_is_done(tmp_path: Path) -> None:
    recorder = Recorder()
    async with listening(tmp_path, recorder.handle):
        await asyncio.to_thread(ask, tmp_path, "stop", "kafka", 90)

    assert recorder.asked == [("stop", "kafka")]


async def test_a_directory_with_a_long_name_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-directory-with-a-long-name"] * 6)
    deep.mkdir(parents=True)
    recorder = Recorder()
    async with listening(deep, recorder.handle):
        await asyncio.to_thread(ask, deep, "start", "kafka", 90)

    assert recorder.asked == [("start", "kafka")]


async def test_a_refusal_reaches_the_one_who_asked(tmp_path: Path) -> None:
    async with listening(tmp_path, Recorder().handle):
        with pytest.raises(ControlError, match="there is no part 'nobody'"):
            await asyncio.to_thread(ask, tmp_path, "stop", "nobody", 90)


async def test_what_takes_too_long_is_given_up_in_words(tmp_path: Path) -> None:
    async with listening(tmp_path, Recorder().handle):
        with pytest.raises(ControlError, match="never did not get there within 0 s"):
            await asyncio.to_thread(ask, tmp_path, "wait", "never", 0.2)


async def test_nonsense_is_answered_and_hurts_nobody(tmp_path: Path) -> None:
    recorder = Recorder()
    async with listening(tmp_path, recorder.handle):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
        writer.write(b"not json\n")
        assert b"not understood" in await reader.readline()
        writer.close()
        await writer.wait_closed()
        await asyncio.to_thread(ask, tmp_path, "stop", "kafka", 90)

    assert recorder.asked == [("stop", "kafka")]


async def test_only_the_owner_may_talk_to_the_supervisor(tmp_path: Path) -> None:
    async with listening(tmp_path, Recorder().handle):
        assert (tmp_path / "control.sock").stat().st_mode & 0o777 == 0o600


def test_without_a_supervisor_the_answer_is_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError, match="it is not running. Start it with make up"):
        ask(tmp_path, "stop", "kafka", 90)
