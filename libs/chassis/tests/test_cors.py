"""Pages of listed origins may use the API from a browser, and those of no other origin, however much it looks alike."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Response
from pydantic import ValidationError

from chassis.cors import EXPOSED_HEADERS
from chassis.identity import CurrentUser
from chassis.service import create_service
from chassis.settings import ServiceSettings
from chassis.testing import REFUSED_URL, bearer, serving, settings_for

APP = "https://app.example.com"
LOCAL = "http://localhost:5173"
STRANGERS = [
    "null",
    "*",
    "https://evil.com",
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://app.example.com.evil.com",
    "https://evilapp.example.com",
    "https://app.example.com@evil.com",
    "https://app-example.com",
    "https://appxexample.com",
    "https://sub.app.example.com",
    "https://example.com",
    "https://app.example.com/",
    "HTTPS://APP.EXAMPLE.COM",
    "https://app.example.com, https://evil.com",
    "http://localhost:5174",
    "http://localhost",
    "https://localhost:5173",
    "http://127.0.0.1:5173",
]
router = APIRouter()


@router.get("/things")
async def things(response: Response, user: CurrentUser) -> str:
    response.headers["ETag"] = '"1"'
    return user.id


@router.get("/broken")
async def broken() -> None:
    raise RuntimeError


def make_app(**settings: object) -> FastAPI:
    made = settings_for(ServiceSettings, REFUSED_URL, cors_origins=[APP, LOCAL], **settings)
    return create_service(made, package="chassis", title="t", description="d", routers=[router])


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(make_app()) as client:
        yield client


async def preflight(client: httpx2.AsyncClient, origin: str, **headers: str) -> httpx2.Response:
    asked = {"Access-Control-Request-Method": "PATCH"} | {name.replace("_", "-"): it for name, it in headers.items()}
    return await client.options("/api/v1/things", headers={"Origin": origin} | asked)


@pytest.mark.parametrize("origin", [APP, LOCAL])
async def test_a_page_of_a_listed_origin_may_read_the_answer_and_its_headers(
    client: httpx2.AsyncClient, origin: str
) -> None:
    response = await client.get("/api/v1/things", headers=bearer("alice") | {"Origin": origin})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == origin
    assert "Origin" in response.headers["vary"]
    assert "access-control-allow-credentials" not in response.headers
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert {"ETag", "Location", "RateLimit", "Retry-After", "X-Request-ID"} <= set(exposed) == set(EXPOSED_HEADERS)


@pytest.mark.parametrize("origin", STRANGERS)
async def test_no_other_origin_is_let_in_however_much_it_looks_alike(client: httpx2.AsyncClient, origin: str) -> None:
    response = await client.get("/api/v1/things", headers=bearer("alice") | {"Origin": origin})
    assert "access-control-allow-origin" not in response.headers
    refused = await preflight(client, origin)
    assert (refused.status_code, refused.json()["code"]) == (403, "cors_refused")
    assert "access-control-allow-origin" not in refused.headers
    assert refused.headers["content-type"] == "application/problem+json"


async def test_a_preflight_needs_no_credential_and_may_be_kept(client: httpx2.AsyncClient) -> None:
    response = await preflight(client, APP, Access_Control_Request_Headers="authorization, if-match, idempotency-key")
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == APP
    assert response.headers["access-control-max-age"] == "600"
    assert "PATCH" in response.headers["access-control-allow-methods"]
    for name in ("authorization", "if-match", "idempotency-key", "content-type"):
        assert name in response.headers["access-control-allow-headers"].lower()
    assert "ratelimit" not in response.headers


async def test_a_preflight_for_what_the_api_does_not_take_is_refused(client: httpx2.AsyncClient) -> None:
    assert (await preflight(client, APP, Access_Control_Request_Headers="x-evil")).status_code == 403
    assert (await preflight(client, APP, Access_Control_Request_Method="TRACE")).status_code == 403


async def test_errors_can_be_read_too(client: httpx2.AsyncClient) -> None:
    for path, status in {
        "/api/v1/things": 401,
        "/api/v1/nothing": 404,
        "/api/v1/broken": 500,
        "/x" * 5000: 414,
    }.items():
        response = await client.get(path, headers={"Origin": APP})
        assert (response.status_code, response.headers.get("access-control-allow-origin")) == (status, APP)
        assert response.headers["x-request-id"]
    async with serving(make_app(rate_limit_per_address=1)) as limited:
        await limited.get("/api/v1/nothing")
        response = await limited.get("/api/v1/nothing", headers={"Origin": APP})
    assert (response.status_code, response.headers.get("access-control-allow-origin")) == (429, APP)


async def test_options_without_a_preflight_is_answered_as_ever(client: httpx2.AsyncClient) -> None:
    response = await client.options("/api/v1/things", headers={"Origin": APP})
    assert (response.status_code, response.headers["allow"]) == (204, "GET, HEAD, OPTIONS")


async def test_without_the_setting_no_origin_is_let_in() -> None:
    app = create_service(settings_for(ServiceSettings), package="chassis", title="t", description="d", routers=[router])
    async with serving(app) as client:
        for origin in (APP, *STRANGERS):
            response = await client.get("/api/v1/things", headers={"Origin": origin})
            assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "origins",
    ["*", "null", "https://*.example.com", "app.example.com", "https://a.example/", "https://A.example", "ftp://a.b",
     "https://a.example:443", "http://a.example:80", "https://user@a.example", "https://a.example, *"],
)  # fmt: skip
def test_what_is_no_exact_origin_is_refused_at_start(origins: str) -> None:
    with pytest.raises(ValidationError):
        settings_for(ServiceSettings, cors_origins=origins)


def test_origins_are_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKWIRE_CORS_ORIGINS", f"{APP}, {LOCAL},http://[::1]:3000")
    assert settings_for(ServiceSettings).cors_origins == [APP, LOCAL, "http://[::1]:3000"]
    monkeypatch.setenv("TASKWIRE_CORS_ORIGINS", "")
    assert settings_for(ServiceSettings).cors_origins == []
