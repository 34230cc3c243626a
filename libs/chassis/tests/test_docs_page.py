"""`/docs` works without the internet and under a strict Content-Security-Policy."""

from collections.abc import AsyncIterator
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx2
import pytest
from typing_extensions import override

from chassis.service import create_service
from chassis.settings import ServiceSettings
from chassis.testing import serving, settings_for


class Page(HTMLParser):
    """What a page loads, and what it has inside that a policy would forbid."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.inline: list[str] = []
        self._in: str | None = None
        self.feed(text)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._in = tag
        self.loaded += [given[name] or "" for name in ("src", "href") if name in given and tag != "a"]
        self.links += [given["href"] or ""] if tag == "a" else []
        self.inline += [name for name in given if name.startswith("on") or name == "style"]

    @override
    def handle_endtag(self, tag: str) -> None:
        self._in = None

    @override
    def handle_data(self, data: str) -> None:
        if self._in in {"script", "style"} and data.strip():
            self.inline.append(data)


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    app = create_service(
        settings_for(ServiceSettings),
        package="chassis",
        api_version="1.0",
        title="Tasks & <more>",
        description="d",
        routers=[],
    )
    async with serving(app) as client:
        yield client


@pytest.fixture
async def page(client: httpx2.AsyncClient) -> Page:
    return Page((await client.get("/docs")).text)


def policy(response: httpx2.Response) -> dict[str, list[str]]:
    directives = [part.split() for part in response.headers["content-security-policy"].split(";")]
    return {name: sources for name, *sources in directives}


async def test_the_page_names_nothing_outside_its_own_origin(page: Page) -> None:
    addresses = page.loaded + page.links
    assert len(addresses) >= 5
    assert [address for address in addresses if urlsplit(address).scheme or urlsplit(address).netloc] == []


async def test_every_asset_is_served_with_its_media_type_and_kept_for_ever(
    client: httpx2.AsyncClient, page: Page
) -> None:
    types = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "png": "image/png"}
    for address in page.loaded:
        response = await client.get(urljoin("http://service.test/docs", address))
        assert response.status_code == 200, address
        assert response.headers["content-type"] == types[address.rpartition(".")[2]]
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.content


async def test_the_page_itself_is_asked_for_again(client: httpx2.AsyncClient) -> None:
    response = await client.get("/docs")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"


async def test_scripts_come_only_from_files_of_this_service(client: httpx2.AsyncClient, page: Page) -> None:
    allowed = policy(await client.get("/docs"))
    assert allowed["default-src"] == ["'none'"]
    assert allowed["script-src"] == allowed["connect-src"] == ["'self'"]
    assert allowed["base-uri"] == allowed["frame-ancestors"] == ["'none'"]
    assert [source for sources in allowed.values() for source in sources if "/" in source or "*" in source] == []
    assert page.inline == []


async def test_the_start_script_loads_our_document_and_tells_nobody(client: httpx2.AsyncClient, page: Page) -> None:
    (start,) = [address for address in page.loaded if address.endswith("start.js")]
    script = (await client.get(f"/{start}")).text
    assert 'url: "openapi.json"' in script
    assert "validatorUrl: null" in script
    assert "http" not in script


async def test_a_title_is_text_and_never_markup(client: httpx2.AsyncClient) -> None:
    assert "<title>Tasks &amp; &lt;more&gt;</title>" in (await client.get("/docs")).text


@pytest.mark.parametrize("name", ["missing.js", "..%2Fmain.py", "__init__.py"])
async def test_only_the_files_of_the_page_are_served(client: httpx2.AsyncClient, page: Page, name: str) -> None:
    directory = page.loaded[0].rpartition("/")[0]
    response = await client.get(f"/{directory}/{name}")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


async def test_there_is_no_second_page_that_would_need_a_cdn(client: httpx2.AsyncClient) -> None:
    for path in ("/redoc", "/docs/oauth2-redirect"):
        assert (await client.get(path)).status_code == 404
