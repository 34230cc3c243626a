"""Work in the background: it lasts as long as its block, and no failure ends what is to be repeated."""

import asyncio

import pytest

from chassis.database import DatabaseUnavailableError
from chassis.periodic import in_background, repeating
from chassis.testing import PATIENCE


@pytest.mark.parametrize("raises", [False, True])
async def test_work_in_the_background_lasts_until_the_block_ends_however_it_ends(raises: bool) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    async def block() -> None:
        async with in_background("a-name", work):
            await asyncio.wait_for(began.wait(), PATIENCE)
            assert "a-name" in {task.get_name() for task in asyncio.all_tasks()}
            assert not ended.is_set()
            if raises:
                raise LookupError("of the block")

    if raises:
        with pytest.raises(LookupError, match="of the block"):
            await block()
    else:
        await block()
    assert ended.is_set(), "the block was left before the work had tidied up"
    assert "a-name" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_a_failure_that_the_work_lets_out_is_raised_where_the_block_ends() -> None:
    failed = asyncio.Event()

    async def work() -> None:
        failed.set()
        raise LookupError("of the work")

    with pytest.raises(LookupError, match="of the work"):
        async with in_background("a-name", work):
            await asyncio.wait_for(failed.wait(), PATIENCE)


@pytest.mark.parametrize("failure", [DatabaseUnavailableError("away"), LookupError("a defect")])
async def test_no_failure_ends_what_is_repeated(failure: Exception) -> None:
    turns, enough = [0], asyncio.Event()

    async def turn() -> int:
        turns[0] += 1
        if turns[0] == 3:
            enough.set()
        raise failure

    async with repeating("a-name", 0.0, turn):
        await asyncio.wait_for(enough.wait(), PATIENCE)
    after = turns[0]
    await asyncio.sleep(0.01)
    assert turns[0] == after, "it was repeated after the end of the block"
