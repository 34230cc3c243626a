"""A service starts only with settings that are complete and safe."""

import secrets

import pytest

from chassis.settings import ServiceSettings, load_settings

GOOD = {
    "TASKWIRE_ENVIRONMENT": "production",
    "TASKWIRE_PORT": "8000",
    "TASKWIRE_DATABASE_URL": f"postgresql://task_api:{secrets.token_urlsafe(24)}@127.0.0.1:5432/task_api",
    "TASKWIRE_AUTH_ISSUER": "https://id.example",
    "TASKWIRE_AUTH_AUDIENCE": "taskwire",
    "TASKWIRE_AUTH_JWKS_URL": "https://id.example/api/auth/jwks",
    "DAPR_API_TOKEN": secrets.token_urlsafe(24),
    "APP_API_TOKEN": secrets.token_urlsafe(24),
    "TASKWIRE_ERASURE_SECRET": secrets.token_urlsafe(32),
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("TASKWIRE_AUTH_HS256_SECRET", raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        load_settings(ServiceSettings)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_complete_settings_are_read(environment: pytest.MonkeyPatch) -> None:
    settings = load_settings(ServiceSettings)
    assert (settings.port, settings.dapr_api_token.get_secret_value()) == (8000, GOOD["DAPR_API_TOKEN"])


@pytest.mark.parametrize(
    "name", sorted(GOOD.keys() - {"TASKWIRE_ENVIRONMENT", "TASKWIRE_AUTH_JWKS_URL", "TASKWIRE_ERASURE_SECRET"})
)
def test_what_is_missing_is_named(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    environment.delenv(name)
    assert f"{name} is not set" in refusal(capsys)


def test_everything_that_is_wrong_is_told_at_once_and_no_value_is_shown(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("TASKWIRE_PORT", "99999")
    environment.setenv("TASKWIRE_DATABASE_URL", "mysql://root:hunter2@127.0.0.1/db")
    environment.setenv("DAPR_API_TOKEN", "short")
    message = refusal(capsys)
    assert all(name in message for name in ("TASKWIRE_PORT", "TASKWIRE_DATABASE_URL", "DAPR_API_TOKEN"))
    assert "hunter2" not in message
    assert "short" not in message.replace("too short", "")


def test_without_any_source_of_keys_nothing_starts(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.delenv("TASKWIRE_AUTH_JWKS_URL")
    assert "exactly one of TASKWIRE_AUTH_JWKS_URL and TASKWIRE_AUTH_HS256_SECRET" in refusal(capsys)


def test_a_shared_secret_is_refused_outside_development(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.delenv("TASKWIRE_AUTH_JWKS_URL")
    environment.setenv("TASKWIRE_AUTH_HS256_SECRET", "s" * 64)
    assert "development only" in refusal(capsys)
    environment.delenv("TASKWIRE_ENVIRONMENT")  # production is what it is when nobody says
    assert "development only" in refusal(capsys)
    environment.setenv("TASKWIRE_ENVIRONMENT", "development")
    assert load_settings(ServiceSettings).auth_hs256_secret is not None


def test_a_short_shared_secret_is_refused_even_in_development(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.delenv("TASKWIRE_AUTH_JWKS_URL")
    environment.setenv("TASKWIRE_ENVIRONMENT", "development")
    environment.setenv("TASKWIRE_AUTH_HS256_SECRET", "s" * 31)
    assert "at least 32 bytes" in refusal(capsys)


def test_keys_over_plain_http_are_refused_outside_development(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("TASKWIRE_AUTH_JWKS_URL", "http://id.example/jwks")
    assert "https" in refusal(capsys)


WEAK = {
    "dddddddddddddddddddddddd": "repeats itself",
    "abababab-abababab-abababab": "repeats itself",
    "ChangeMe-7f3kq9zt1m5x8w": "guessed first",
    "my-very-own-Password-2026": "guessed first",
    "0123456789abcdef": "guessed first",
}


@pytest.mark.parametrize("name", ["DAPR_API_TOKEN", "APP_API_TOKEN"])
@pytest.mark.parametrize("weak", WEAK)
def test_a_secret_that_is_none_is_refused_outside_development(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, weak: str
) -> None:
    environment.setenv(name, weak)
    message = refusal(capsys)
    assert f"{name} " in message
    assert WEAK[weak] in message
    assert weak not in message
    environment.setenv("TASKWIRE_ENVIRONMENT", "development")
    assert load_settings(ServiceSettings).environment == "development"


@pytest.mark.parametrize(
    ("password", "why"), [("short", "at least 16"), ("p" * 20, "repeats"), ("password%21" * 2, "gues")]
)
def test_a_weak_password_of_the_database_is_refused_outside_development(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], password: str, why: str
) -> None:
    environment.setenv("TASKWIRE_DATABASE_URL", f"postgresql://task_api:{password}@db.example/task_api")
    message = refusal(capsys)
    assert f"TASKWIRE_DATABASE_URL {'needs ' if why[0] == 'a' else ''}" in message
    assert why in message
    assert password not in message


def test_two_secrets_that_are_the_same_are_refused_and_both_are_named(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("APP_API_TOKEN", GOOD["DAPR_API_TOKEN"])
    message = refusal(capsys)
    assert "DAPR_API_TOKEN and APP_API_TOKEN are the same" in message
    assert GOOD["DAPR_API_TOKEN"] not in message


def test_a_database_that_asks_for_no_password_needs_none(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TASKWIRE_DATABASE_URL", "postgresql://task_api@db.example/task_api")
    assert load_settings(ServiceSettings).secrets().keys() == {
        "DAPR_API_TOKEN",
        "APP_API_TOKEN",
        "TASKWIRE_ERASURE_SECRET",
    }


EDGES = {
    "TASKWIRE_CORS_ORIGINS": "https://app.example.com, https://*.example.com",
    "TASKWIRE_TRUSTED_PROXIES": "10.0.0.0/8, proxy.example",
    "TASKWIRE_FORWARDED_HEADER": "x-real-ip",
    "TASKWIRE_RATE_LIMIT_PER_USER": "0",
    "TASKWIRE_HSTS": "maybe",
}


@pytest.mark.parametrize("name", EDGES)
def test_what_is_wrong_with_the_edge_is_named_and_nothing_starts(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    environment.setenv(name, EDGES[name])
    message = refusal(capsys)
    assert name in message
    assert EDGES[name] not in message


def test_the_address_of_a_store_is_not_shown(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("TASKWIRE_RATE_LIMIT_STORE", "http://user:hunter2@store")
    message = refusal(capsys)
    assert "TASKWIRE_RATE_LIMIT_STORE" in message
    assert "hunter2" not in message


def test_lists_of_the_edge_are_read_with_commas(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TASKWIRE_TRUSTED_PROXIES", "10.0.0.0/8, 2001:db8::/32,127.0.0.1")
    networks = load_settings(ServiceSettings).trusted_proxies
    assert [str(network) for network in networks] == ["10.0.0.0/8", "2001:db8::/32", "127.0.0.1/32"]


STRONG, STRONGER = "9f31c7d05ae8b264" * 2, "4e6b0d9a72c5f813" * 2


def test_keys_and_roles_of_proxies_are_read(environment: pytest.MonkeyPatch) -> None:
    assert load_settings(ServiceSettings).proxy_keys == {}
    environment.setenv("TASKWIRE_PROXY_KEYS", f"edge-1:{STRONG}, edge-2:{STRONGER}")
    environment.setenv("TASKWIRE_PROXY_ROLES", "auditor, admin")
    settings = load_settings(ServiceSettings)
    assert {name: key.get_secret_value() for name, key in settings.proxy_keys.items()} == {
        "edge-1": STRONG,
        "edge-2": STRONGER,
    }
    assert settings.proxy_roles == ("auditor", "admin")
    assert STRONG not in repr(settings)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (STRONG, "list of id:secret"),
        (f"a b:{STRONG}", "list of id:secret"),
        (f"edge:{STRONG},edge:{STRONGER}", "two keys edge"),
        (f"edge:{STRONG[:31]}", "at least 32 bytes"),
        ("edge:" + "ab" * 32, "random"),
        (f"edge:{STRONG} x", "visible ASCII"),
        (f"edge-1:{STRONG},edge-2:{STRONG}", "under two ids"),
        (",".join(f"edge-{n}:{STRONG}{n}" for n in range(11)), "more than 10"),
    ],
)
def test_weak_keys_of_proxies_are_refused_and_not_shown(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], keys: str, reason: str
) -> None:
    environment.setenv("TASKWIRE_PROXY_KEYS", keys)
    said = refusal(capsys)
    assert "TASKWIRE_PROXY_KEYS" in said
    assert reason in said
    assert STRONG[:31] not in said


@pytest.mark.parametrize("role", ["user", "root"])
def test_a_role_that_cannot_be_given_is_refused(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], role: str
) -> None:
    environment.setenv("TASKWIRE_PROXY_ROLES", role)
    assert "TASKWIRE_PROXY_ROLES takes roles that can be given: admin, auditor" in refusal(capsys)


@pytest.mark.parametrize("secret", [None, "short"])
def test_without_a_strong_key_for_digests_of_erased_users_nothing_starts(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], secret: str | None
) -> None:
    environment.delenv("TASKWIRE_ERASURE_SECRET")
    if secret is not None:
        environment.setenv("TASKWIRE_ERASURE_SECRET", secret)
    message = refusal(capsys)
    assert "TASKWIRE_ERASURE_SECRET" in message
    assert "short" not in message


def test_in_development_erased_users_are_recognised_by_the_secret_of_the_tokens(
    environment: pytest.MonkeyPatch,
) -> None:
    for name in ("TASKWIRE_ERASURE_SECRET", "TASKWIRE_AUTH_JWKS_URL"):
        environment.delenv(name)
    environment.setenv("TASKWIRE_ENVIRONMENT", "development")
    environment.setenv("TASKWIRE_AUTH_HS256_SECRET", "s" * 32)
    assert load_settings(ServiceSettings).erasure_key == b"s" * 32


def test_one_password_in_both_addresses_of_one_database_is_one_secret(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TASKWIRE_DATABASE_DIRECT_URL", GOOD["TASKWIRE_DATABASE_URL"].replace("5432", "5433"))
    assert "TASKWIRE_DATABASE_DIRECT_URL" not in load_settings(ServiceSettings).secrets()


def test_another_role_for_migrations_has_a_secret_of_its_own(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("TASKWIRE_DATABASE_DIRECT_URL", "postgresql://owner:hunter2@127.0.0.1:5432/task_api")
    assert "TASKWIRE_DATABASE_DIRECT_URL needs at least" in refusal(capsys)
