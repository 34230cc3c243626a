"""A service starts only with settings that are complete and safe."""

import pytest

from chassis.settings import ServiceSettings, load_settings

GOOD = {
    "TASKWIRE_ENVIRONMENT": "production",
    "TASKWIRE_PORT": "8000",
    "TASKWIRE_DATABASE_URL": "postgresql://task_api:pa55word@127.0.0.1:5432/task_api",
    "TASKWIRE_AUTH_ISSUER": "https://id.example",
    "TASKWIRE_AUTH_AUDIENCE": "taskwire",
    "TASKWIRE_AUTH_JWKS_URL": "https://id.example/api/auth/jwks",
    "DAPR_API_TOKEN": "d" * 32,
    "APP_API_TOKEN": "a" * 32,
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
    assert (settings.port, settings.dapr_api_token.get_secret_value()) == (8000, "d" * 32)


@pytest.mark.parametrize("name", sorted(GOOD.keys() - {"TASKWIRE_ENVIRONMENT", "TASKWIRE_AUTH_JWKS_URL"}))
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
