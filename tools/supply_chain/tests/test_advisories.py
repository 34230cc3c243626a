"""Known vulnerabilities are found, accepted ones are named with a reason, and what was not checked is not called safe.

pip-audit's own service asks; the index is a server on the loopback that answers as a real one does.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from packaging.version import Version
from pip_audit._service import PyPIService, ResolvedDependency
from requests.adapters import HTTPAdapter
from typing_extensions import override

from supply_chain import __main__ as command
from supply_chain import exceptions
from supply_chain.advisories import audit, index_service, locked
from supply_chain.exceptions import Accepted, Exceptions

ROOT = Path(__file__).resolve().parents[3]
ECDSA = {
    "id": "PYSEC-2026-1325",
    "aliases": ["CVE-2024-23342"],
    "details": "A timing attack.",
    "summary": None,
    "fixed_in": [],
    "withdrawn": None,
}
WITHDRAWN = ECDSA | {"id": "PYSEC-1", "aliases": [], "withdrawn": "2026-01-01T00:00:00Z"}
REPAIRED = ECDSA | {"id": "PYSEC-2", "aliases": [], "fixed_in": ["1.10", "1.9"]}


class Index(HTTPAdapter):
    """An index on the loopback; whatever host is asked, the question goes there."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: dict[str, object] = {}
        self.url = "http://127.0.0.1:1"

    @override
    def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
        asked = str(request.url)
        request.url = self.url + urlsplit(asked).path
        response = super().send(request, *args, **kwargs)  # type: ignore[arg-type]
        response.url = asked
        return response


@pytest.fixture
def index() -> Iterator[Index]:
    index = Index()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = index.pages.get(self.path)
            body = json.dumps(page).encode()
            self.send_response(500 if page == "broken" else 404 if page is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield index
    server.shutdown()
    server.server_close()


@pytest.fixture
def service(index: Index, tmp_path: Path) -> PyPIService:
    service = index_service(tmp_path / "cache")
    service.session.mount("https://", index)
    return service


def dependency(name: str, version: str = "1.0") -> ResolvedDependency:
    return ResolvedDependency(name, Version(version))


def page(version: str, *vulnerabilities: object) -> dict[str, object]:
    return {"info": {"version": version}, "vulnerabilities": list(vulnerabilities)}


def test_a_known_vulnerability_is_told_with_all_its_names_and_what_repairs_it(
    index: Index, service: PyPIService
) -> None:
    index.pages = {"/pypi/a/1.0/json": page("1.0", ECDSA, WITHDRAWN, REPAIRED), "/pypi/b/1.0/json": page("1.0")}
    verdict = audit([dependency("a"), dependency("b")], service, Exceptions([]))
    assert (verdict.checked, verdict.unknown, verdict.unreachable) == (2, [], None)
    assert verdict.problems == [
        "a 1.0: CVE-2024-23342, PYSEC-2026-1325, repaired in no release yet: A timing attack.",
        "a 1.0: PYSEC-2, repaired in 1.9, 1.10: A timing attack.",
    ]


@pytest.mark.parametrize("name", ["PYSEC-2026-1325", "CVE-2024-23342"])
def test_one_that_is_accepted_under_any_of_its_names_is_no_problem(
    index: Index, service: PyPIService, name: str
) -> None:
    index.pages = {"/pypi/a/1.0/json": page("1.0", ECDSA), "/pypi/b/1.0/json": page("1.0", ECDSA)}
    verdict = audit([dependency("a"), dependency("b")], service, Exceptions([Accepted("a", name, "x")]))
    assert [problem.split()[0] for problem in verdict.problems] == ["b"]


def test_an_exception_that_nothing_needs_any_more_is_a_problem_but_only_if_that_is_known(
    index: Index, service: PyPIService
) -> None:
    index.pages = {"/pypi/a/1.0/json": page("1.0")}
    accepted = Exceptions([Accepted(name, "CVE-1", "x") for name in ("a", "unknown", "gone")])
    verdict = audit([dependency("a"), dependency("unknown")], service, accepted)
    assert [problem.partition(":")[0] for problem in verdict.problems] == ["a", "gone"]
    assert verdict.unknown == ["unknown"]


def test_an_index_without_pages_for_releases_is_asked_for_the_newest_one(index: Index, service: PyPIService) -> None:
    index.pages = {"/pypi/a/json": page("1.0", ECDSA), "/pypi/b/json": page("2.0", ECDSA)}
    verdict = audit([dependency("a"), dependency("b")], service, Exceptions([]))
    assert [problem.split()[0] for problem in verdict.problems] == ["a"]
    assert verdict.unknown == ["b"]  # what is said of 2.0 says nothing of 1.0


def test_an_index_that_is_out_of_reach_or_broken_says_nothing_and_that_is_told(
    index: Index, service: PyPIService, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index.pages = {"/pypi/a/1.0/json": "broken"}
    assert audit([dependency("a")], service, Exceptions([])).unreachable is not None
    index.url = "http://127.0.0.1:1"
    monkeypatch.setattr(command, "index_service", lambda _: service)
    assert command.main(["advisories"]) == 0
    assert "!! NOT CHECKED for known vulnerabilities, the index cannot be asked" in capsys.readouterr().err


def test_what_is_found_is_told_though_the_index_breaks_over_another_package(index: Index, service: PyPIService) -> None:
    index.pages = {"/pypi/a/1.0/json": "broken", "/pypi/b/1.0/json": page("1.0", ECDSA), "/pypi/c/1.0/json": "broken"}
    accepted = Exceptions([Accepted("a", "CVE-1", "x")])
    verdict = audit([dependency(name) for name in "abc"], service, accepted)
    assert [problem.split()[0] for problem in verdict.problems] == ["b"], "of a nothing is known: nothing is stale"
    assert (verdict.checked, verdict.unknown) == (1, ["a", "c"])
    assert verdict.unreachable is not None


def test_a_finding_ends_the_command_with_an_error(
    index: Index, service: PyPIService, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index.pages = {
        "/pypi/fastapi/json": page(str(next(one for one in everything() if one.name == "fastapi").version), ECDSA)
    }
    monkeypatch.setattr(command, "index_service", lambda _: service)
    assert command.main(["advisories"]) == 1
    told = capsys.readouterr().err
    assert "✗ fastapi" in told
    assert "!! NOT CHECKED for known vulnerabilities, not known to the index" in told


def everything() -> list[ResolvedDependency]:
    return locked(ROOT / "uv.lock")


def test_everything_that_is_locked_is_asked_about_and_nothing_of_ours() -> None:
    names = {one.name for one in everything()}
    assert names >= {"fastapi", "sqlalchemy", "ecdsa", "pytest"}
    assert names & {"taskwire", "task-api", "chassis", "supply-chain"} == set()


@pytest.mark.parametrize("why", ["", "  ", "two\\nlines", "long " * 50])
def test_an_exception_needs_its_reason_in_one_line(tmp_path: Path, why: str) -> None:
    file = tmp_path / "exceptions.toml"
    file.write_text(f'[[advisory]]\npackage = "a"\nid = "CVE-1"\nwhy = "{why}"\n')
    with pytest.raises(ValueError, match="a: CVE-1 needs its reason, in one line"):
        exceptions.read(file, kind="advisory", subject="package", finding="id")
