"""No service starts outside development with a secret that is missing or weak: every one there is, and a new one."""

import base64
import importlib
import re
import secrets
from typing import get_args

import pytest
from pydantic import SecretBytes, SecretStr

from chassis.settings import ConsumerSettings, ServiceSettings, load_settings, variable_of
from devstack.services import SERVICES

STRONG = {
    "TASKWIRE_PORT": "8000",
    "TASKWIRE_AUTH_ISSUER": "https://id.example",
    "TASKWIRE_AUTH_AUDIENCE": "taskwire",
    "TASKWIRE_AUTH_JWKS_URL": "https://id.example/api/auth/jwks",
    "TASKWIRE_ENCRYPTION_KEYS": f"first:{base64.b64encode(secrets.token_bytes(32)).decode()}",
    "TASKWIRE_RATE_LIMIT_STORE": f"valkeys://:{secrets.token_urlsafe(24)}@store.example:6379/0",
    "TASKWIRE_PROXY_KEYS": f"new:{secrets.token_urlsafe(32)},old:{secrets.token_urlsafe(32)}",
    "TASKWIRE_API_KEY_PEPPERS": f"new:{secrets.token_urlsafe(32)},old:{secrets.token_urlsafe(32)}",
}
FOR_DEVELOPMENT_ONLY = "auth_hs256_secret"
SOUNDS_SECRET = re.compile(r"(secret|password|token|private|credential|_keys?$)")
WEAK = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"


def mentions_secret(annotation: object) -> bool:
    return annotation in {SecretStr, SecretBytes} or any(map(mentions_secret, get_args(annotation)))


for service in SERVICES:
    importlib.import_module(f"{service.module}.settings")


def all_below(settings_class: type[ServiceSettings]) -> list[type[ServiceSettings]]:
    return [settings_class, *(one for below in settings_class.__subclasses__() for one in all_below(below))]


CLASSES = [one for one in all_below(ServiceSettings) if one.__module__.endswith(".settings")]
SECRETS = [
    (settings_class, name)
    for settings_class in CLASSES
    for name, field in settings_class.model_fields.items()
    if mentions_secret(field.annotation)
]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Production, with every secret of every service, and strong."""
    for settings_class, name in SECRETS:
        if name != FOR_DEVELOPMENT_ONLY:
            monkeypatch.setenv(variable_of(settings_class, name), secrets.token_urlsafe(32))
    for name, value in STRONG.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TASKWIRE_DATABASE_URL", f"postgresql://it:{secrets.token_urlsafe(24)}@db.example/it")
    for name in ("TASKWIRE_ENVIRONMENT", "TASKWIRE_AUTH_HS256_SECRET"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def refusal(settings_class: type[ServiceSettings], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        load_settings(settings_class)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_the_walk_has_found_the_services_and_their_secrets() -> None:
    assert {one.__module__ for one in CLASSES} >= {f"{service.module}.settings" for service in SERVICES}
    assert ConsumerSettings in CLASSES
    assert {name for _, name in SECRETS} >= {"dapr_api_token", "app_api_token", "auth_hs256_secret", "cursor_secret"}


@pytest.mark.parametrize("settings_class", CLASSES)
def test_strong_secrets_are_taken_and_all_of_them_are_masked_in_logs(
    environment: pytest.MonkeyPatch, settings_class: type[ServiceSettings]
) -> None:
    settings = load_settings(settings_class)
    known = {name for owner, name in SECRETS if owner is settings_class and name != FOR_DEVELOPMENT_ONLY}
    wanted = {"TASKWIRE_DATABASE_URL", *(variable_of(settings_class, name) for name in known)}
    assert {name.partition("[")[0] for name in settings.secrets()} == wanted
    assert not [
        secret
        for secret in settings.secrets().values()
        if secret in repr(settings).replace(str(settings.database_url), "")
    ]


@pytest.mark.parametrize(("settings_class", "name"), SECRETS)
def test_every_secret_is_refused_when_it_is_weak_by_its_name_and_not_by_its_value(
    environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings_class: type[ServiceSettings],
    name: str,
) -> None:
    variable = variable_of(settings_class, name)
    environment.setenv(variable, WEAK)
    message = refusal(settings_class, capsys)
    assert variable in message
    assert WEAK not in message


@pytest.mark.parametrize("settings_class", CLASSES)
def test_whatever_sounds_like_a_secret_is_kept_as_one(settings_class: type[ServiceSettings]) -> None:
    fields = settings_class.model_fields.items()
    assert [
        name for name, field in fields if SOUNDS_SECRET.search(name) and not mentions_secret(field.annotation)
    ] == []


def test_of_the_address_of_a_store_only_the_password_is_a_secret(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variable = "TASKWIRE_RATE_LIMIT_STORE"
    environment.setenv(variable, "valkey://taskwire-valkey:6379")
    assert variable not in load_settings(ServiceSettings).secrets()
    environment.setenv(variable, f"valkey://:{WEAK}@valkey:6379")
    message = refusal(ServiceSettings, capsys)
    assert variable in message
    assert WEAK not in message
