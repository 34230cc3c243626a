"""Keeps a copy of one's tasks in a file: a full sync, then what changes, until it is stopped.

Needs nothing but Python: `TOKEN=… python3 local_copy.py http://127.0.0.1:8000/api/v1 tasks.json`
"""

import json
import os
import sys
import time
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen


def ask(url: str, **headers: str) -> HTTPResponse:
    """Ask with the token. Longer than three heartbeats without a byte means that nobody is there any more."""
    headers["Authorization"] = f"Bearer {os.environ['TOKEN']}"
    answer: HTTPResponse = urlopen(Request(url, headers=headers), timeout=60)  # noqa: S310
    return answer


def apply(copy: dict[str, Any], change: dict[str, Any], cursor: str | None) -> None:
    """Take over one change: a task as it is now, or that it is gone."""
    if change["task"] is None:
        copy["tasks"].pop(str(change["id"]), None)
    else:
        copy["tasks"][str(change["id"])] = change["task"]
    copy["cursor"] = cursor


def follow(api: str, file: Path) -> None:
    """Catch up with the feed, then listen to the stream, until it ends."""
    copy = json.loads(file.read_text()) if file.exists() else {"cursor": None, "tasks": {}}
    more = True
    while more:
        query = "limit=500" + (f"&cursor={copy['cursor']}" if copy["cursor"] else "")
        with ask(f"{api}/tasks/changes?{query}") as answer:
            page = json.load(answer)
        for change in page["items"]:
            apply(copy, change, copy["cursor"])
        copy["cursor"], more = page["next_cursor"], page["has_more"]
        save(copy, file)
    with ask(f"{api}/tasks/stream", **{"Last-Event-ID": copy["cursor"]}) as stream:
        fields: dict[str, str] = {}
        for line in stream:
            if name_and_value := line.decode().rstrip("\n"):
                name, _, value = name_and_value.partition(": ")
                fields[name] = value
                continue
            if "data" in fields:
                apply(copy, json.loads(fields["data"]), fields["id"])
                save(copy, file)
            fields = {}


def save(copy: dict[str, Any], file: Path) -> None:
    """Write tasks and cursor together, whole or not at all: one without the other would be a lie."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(copy))
    part.replace(file)


def main(api: str, file: Path) -> None:
    """Come back whenever the stream ends: when a replica stops, when the network breaks."""
    while True:
        wait = 1.0
        try:
            follow(api, file)
        except HTTPError as error:
            if error.code == 410:  # noqa: PLR2004  (cursor_expired: the copy may be wrong, so begin again)
                file.unlink(missing_ok=True)
            elif error.code in (429, 502, 503):
                wait = float(error.headers.get("Retry-After") or wait)
            else:
                raise
        except (OSError, HTTPException) as error:
            print(f"{error}; trying again", file=sys.stderr)  # noqa: T201
        time.sleep(wait)


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), Path(sys.argv[2]))
