"""Every answer tells browsers what not to do with it, whoever in the service made it."""

import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from fastapi import APIRouter, FastAPI

from chassis.security_headers import SECURITY_HEADERS
from chassis.service import create_service
from chassis.settings import ServiceSettings
from chassis.testing import REFUSED_URL, serving, settings_for

APP = "https://app.example.com"
PAGE = Path(__file__).parents[3] / "docs" / "api" / "edges.md"
router = APIRouter()


@router.post("/things")
async def add(thing: dict[str, str]) -> dict[str, str]:
    return thing


@router.get("/broken")
async def broken() -> None:
    raise RuntimeError


def make_app(**settings: object) -> FastAPI:
    made = settings_for(ServiceSettings, REFUSED_URL, cors_origins=[APP], **settings)
    return create_service(made, package="chassis", title="t", description="d", routers=[router])


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(make_app()) as client:
        yield client


def test_the_headers_are_those_that_are_told() -> None:
    told = PAGE.read_text(encoding="utf-8")
    for name, value in SECURITY_HEADERS:
        assert f"\n{name.decode()}: {value.decode()}\n" in told
    assert {b"x-content-type-options", b"content-security-policy", b"x-frame-options", b"referrer-policy",
            b"cross-origin-resource-policy"} <= {name for name, _ in SECURITY_HEADERS}  # fmt: skip


async def test_every_kind_of_answer_has_every_header(client: httpx2.AsyncClient) -> None:
    strange = {"Origin": "https://evil.com", "Access-Control-Request-Method": "GET"}
    answers = {
        200: await client.post("/api/v1/things", json={"a": "b"}),
        204: await client.options("/api/v1/things"),
        403: await client.options("/api/v1/things", headers=strange),
        404: await client.get("/nothing"),
        405: await client.get("/api/v1/things"),
        413: await client.post("/api/v1/things", content=b"x" * 70_000),
        414: await client.get("/" + "x" * 9_000),
        422: await client.post("/api/v1/things", json=[]),
        431: await client.get("/", headers={"X-Large": "x" * 17_000}),
        500: await client.get("/api/v1/broken"),
    }
    answers[200] = await client.get("/health/live")
    async with serving(make_app(rate_limit_per_address=1)) as limited:
        await limited.get("/")
        answers[429] = await limited.get("/")
    for status, answer in answers.items():
        assert answer.status_code == status, answer.text
        for name, value in SECURITY_HEADERS:
            assert answer.headers[name.decode()] == value.decode(), status
            assert answer.headers.get_list(name.decode()) == [value.decode()]
        assert "server" not in answer.headers


async def test_the_page_keeps_its_own_policy_and_has_the_rest(client: httpx2.AsyncClient) -> None:
    page = await client.get("/docs")
    (policy,) = page.headers.get_list("content-security-policy")
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["x-content-type-options"] == "nosniff"


async def test_hsts_is_sent_where_a_trusted_proxy_was_asked_by_https() -> None:
    proxied = {"X-Forwarded-Proto": "https"}
    async with serving(make_app(trusted_proxies=[ipaddress.ip_network("127.0.0.1")])) as behind:
        assert (await behind.get("/", headers=proxied)).headers["strict-transport-security"] == "max-age=31536000"
        assert "strict-transport-security" not in (await behind.get("/")).headers
    async with serving(make_app()) as direct:
        assert "strict-transport-security" not in (await direct.get("/", headers=proxied)).headers


async def test_hsts_can_be_always_or_never() -> None:
    async with serving(make_app(hsts="always")) as client:
        assert "strict-transport-security" in (await client.get("/")).headers
    async with serving(make_app(hsts="off", trusted_proxies="127.0.0.0/8")) as client:
        answer = await client.get("/", headers={"X-Forwarded-Proto": "https"})
        assert "strict-transport-security" not in answer.headers
