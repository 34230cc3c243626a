"""A replica that is killed while it rotates a key: the real process, SIGKILL, wherever it is."""

import asyncio
import contextlib
import json
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx2
import pytest

from chassis.testing import PATIENCE, bearer
from chassis.testing_environment import environment_for
from devstack.polling import within
from devstack.service_process import ServiceProcess, running_service

KEYS: Final = "/api/v1/api-keys"
Json = dict[str, Any]
PAUSE: Final = """
    CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$;
"""
MOMENTS: Final = {
    "before it shortens the overlap": "CREATE TRIGGER p BEFORE UPDATE ON api_key_secrets EXECUTE FUNCTION pause()",
    "when the new secret is there": "CREATE TRIGGER p AFTER INSERT ON api_key_secrets EXECUTE FUNCTION pause()",
    "when the key is changed": "CREATE TRIGGER p AFTER UPDATE ON api_keys EXECUTE FUNCTION pause()",
    "amid the commit": (
        "CREATE CONSTRAINT TRIGGER p AFTER INSERT ON api_key_secrets DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        " EXECUTE FUNCTION pause()"
    ),
}
OTHERS: Final = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'task-api'"


def service(database_url: str, log: Path) -> AbstractAsyncContextManager[ServiceProcess]:
    """`python -m task_api serve` as it is deployed."""
    told = {"TASKWIRE_LOG_LEVEL": "DEBUG", "TASKWIRE_API_KEY_PEPPERS": "p:" + "planted-pepper-" * 3}
    return running_service("task_api", environment_for(database_url, **told), log)


def lines(log: Path) -> list[Json]:
    return [json.loads(line) for line in log.read_text().splitlines()]


async def logged(log: Path, route: str, *, times: int) -> bool:
    with contextlib.suppress(json.JSONDecodeError):  # of a line that is being written
        return [line.get("route") for line in lines(log) if line["event"] == "request"].count(route) >= times
    return False


async def works(http: httpx2.AsyncClient, key: Json) -> bool:
    answer = await http.get("/api/v1/tasks", headers={"Authorization": f"Bearer {key['key']}"})
    return answer.status_code == 200


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_rotation_that_is_killed_leaves_the_old_secret_and_can_be_done_again(
    database_url: str, tmp_path: Path, moment: str
) -> None:
    keys = list[Json]()
    connection = await asyncpg.connect(database_url)
    async with (
        service(database_url, tmp_path / "first.log") as first,
        httpx2.AsyncClient(base_url=first.url, headers=bearer("alice"), timeout=PATIENCE) as http,
    ):
        made = await http.post(KEYS, json={"name": "x", "scopes": ["tasks:read"]})
        keys.append(made.json())
        path = f"{KEYS}/{keys[0]['id']}"
        await connection.execute(PAUSE)
        await connection.execute(MOMENTS[moment])
        await connection.execute("SELECT pg_advisory_lock(4711)")
        rotating = asyncio.create_task(http.post(f"{path}/rotate", json={"overlap_seconds": 3600}))

        async def there() -> bool:
            waiting = f"SELECT count(*) {OTHERS} AND wait_event = 'advisory'"
            assert not rotating.done(), rotating.result().text
            return bool(await connection.fetchval(waiting))

        assert await within(PATIENCE, there, 0.05)
        first.process.send_signal(signal.SIGKILL)
        with pytest.raises(httpx2.HTTPError):
            await rotating
        await connection.execute("SELECT pg_advisory_unlock(4711)")

        async def over() -> bool:
            return not await connection.fetchval(f"SELECT count(*) {OTHERS}")

        assert await within(PATIENCE, over, 0.05)
    secrets = await connection.fetch("SELECT valid_until FROM api_key_secrets ORDER BY created_at")
    assert len(secrets) == (2 if moment == "amid the commit" else 1)
    assert [row["valid_until"] is None for row in secrets] == [False] * (len(secrets) - 1) + [True]
    async with (
        service(database_url, tmp_path / "second.log") as second,
        httpx2.AsyncClient(base_url=second.url, headers=bearer("alice"), timeout=PATIENCE) as http,
    ):
        assert await works(http, keys[0])
        for overlap, old_works in ((3600, True), (0, False)):
            rotated = await http.post(f"{path}/rotate", json={"overlap_seconds": overlap})
            assert rotated.status_code == 200, rotated.text
            keys.append(rotated.json())
            assert [await works(http, keys[0]), await works(http, keys[-1])] == [old_works, True]
        assert await connection.fetchval("SELECT count(*) FROM api_key_secrets") == 1
        # A request is logged after its answer has left.
        assert await within(PATIENCE, lambda: logged(tmp_path / "second.log", "/api/v1/tasks", times=5), 0.05)
    await connection.close()
    asked = [line for line in lines(tmp_path / "second.log") if line["event"] == "request"]
    named = [line.get("api_key") for line in asked if line["route"] == "/api/v1/tasks"]
    assert named == [keys[number]["prefix"][3:] for number in (0, 0, 1)] + [None, keys[2]["prefix"][3:]]
    assert not any("api_key" in line for line in asked if line["route"] != "/api/v1/tasks")
    written = (tmp_path / "first.log").read_text() + (tmp_path / "second.log").read_text()
    assert not any(key["key"][16:] in written for key in keys)
    assert "planted-pepper" not in written
