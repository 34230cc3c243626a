"""The two clients in docs/identity.md, run as they stand there against a real service."""

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest
from tests.security.proxy import SECRET

from chassis.testing import listening
from task_api.app import create_app
from task_api.settings import TaskApiSettings

PAGE = Path(__file__).parents[2] / "docs/identity.md"


@pytest.mark.parametrize(("language", "command"), [("python", sys.executable), ("sh", "/bin/sh")])
async def test_a_client_of_the_page_creates_and_lists(
    proxied_settings: TaskApiSettings, tmp_path: Path, language: str, command: str
) -> None:
    (found,) = [
        code for code in re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL) if "signature=" in code
    ]
    assert len([line for line in found.splitlines() if line.strip()]) <= 12
    (tmp_path / "client").write_text(found)
    (tmp_path / "proxy.secret").write_text(SECRET + "\n")
    app = create_app(proxied_settings)

    async def run(*arguments: str) -> dict[str, object]:
        process = await asyncio.create_subprocess_exec(
            command, "client", *arguments, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        said, complained = await process.communicate()
        assert process.returncode == 0, complained.decode()
        answer: dict[str, object] = json.loads(said)
        return answer

    async with app.router.lifespan_context(app), listening(app) as url:
        created = await run(url, "POST", "/api/v1/tasks", "zo%C3%AB", '{"title": "Sign it"}')
        assert created["title"] == "Sign it", created
        listed = await run(url, "GET", "/api/v1/tasks?limit=2&sort=-updated_at", "zo%C3%AB", "")
        assert [task["id"] for task in listed["items"]] == [created["id"]]  # type: ignore[attr-defined]
