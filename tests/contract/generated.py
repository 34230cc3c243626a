"""Requests that schemathesis makes of an OpenAPI document: what they met, and what was found."""

import itertools
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import schemathesis
from hypothesis.errors import HypothesisWarning
from schemathesis import Case, HookContext
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import read_event_stream
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.hooks import unregister
from schemathesis.transport import requests as sending
from tests.contract.running import KNOWN_IDS
from typing_extensions import override

SPECS: Final = Path(__file__).parents[2] / "specs" / "openapi"
_SHOWN_CHARS: Final = 500
_STREAM_SECONDS: Final = 0.5
_EXAMPLE_KEY: Final = "8e03978e-40d5-43e8-bc93-6894a57f9324"
_ENDS_A_MEMBERSHIP = re.compile(r"(/leave|/transfer)$|^DELETE .*\{engagement_id\}$")
_EXAMPLE_TAG: Final = '"7-3"'


@dataclass
class Findings:
    """What a run met."""

    requests: Counter[str] = field(default_factory=Counter)
    """By the phase that made them."""
    answers: dict[str, Counter[int]] = field(default_factory=dict)
    """Statuses by operation."""
    failures: dict[str, str] = field(default_factory=dict)
    """What does not hold, once for each operation and reason, with a request that shows it."""

    @override
    def __str__(self) -> str:
        """Give the figures for people."""
        made = ", ".join(f"{count} {phase}" for phase, count in self.requests.items())
        return (
            f"{len(self.answers)} operations, {self.requests.total()} requests ({made}), {len(self.failures)} findings"
        )

    def note(self, phase: str, recorder: ScenarioRecorder) -> None:
        """Take over what one scenario recorded."""
        for case_id, interaction in recorder.interactions.items():
            self.requests[phase] += 1
            if interaction.response is not None:
                self.answers.setdefault(recorder.label, Counter())[interaction.response.status_code] += 1
            for check in recorder.checks.get(case_id, []):
                if check.failure_info is not None:
                    failure = check.failure_info.failure
                    response = interaction.response
                    answer = f"{response.status_code} {response.content[:_SHOWN_CHARS]!r}" if response else "no answer"
                    shown = f"{failure.message}\n{check.failure_info.code_sample}\n→ {answer}"
                    self.failures.setdefault(f"{recorder.label}: {check.name}: {failure.title}", shown)


def send(
    service: str,
    address: str,
    *,
    headers: Mapping[str, str],
    examples: int,
    thorough: bool,
    seed: int | None = None,
) -> Findings:
    """Send what can be made of the committed document of a service, and check every answer against it.

    Args:
        service: Its name.
        address: Where it runs.
        headers: Sent with every request; a check of its own leaves the credential out.
        examples: Random requests for each operation.
        thorough: Every value at and beyond every limit in the document, and each method it does not have.
        seed: Of the random requests; without one they are the same every time.
    """
    wanted: dict[str, Any] = {
        "base-url": address,
        "headers": dict(headers),
        "continue-on-failure": True,
        "cache": {"enabled": False},  # it would bring from one run to the next what answers brought
        "request-timeout": 90,
        "generation": {"max-examples": examples, "deterministic": seed is None, "database": "none"},
        # Not what answers bring: requests would depend on ids, times and seals, and no two runs were the same.
        "phases": {
            "examples": {"extra-data-sources": {"responses": seed is not None}},
            "coverage": {"enabled": thorough, "extra-data-sources": {"responses": seed is not None}},
            "fuzzing": {"extra-data-sources": {"responses": seed is not None}},
            "stateful": {"enabled": False},
        },
        "checks": {
            # Cursors, parents and positions that fit the document may still be wrong; tests of their own say when.
            "positive_data_acceptance": {"enabled": False},
            # Among what breaks a rule are URLs of many kilobytes.
            "negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, 409, 413, 414, 415, 422]},
            # The one required header is the credential, and `ignored_auth` knows how to leave it out.
            "missing_required_header": {"enabled": False},
        },
        "operations": [
            # An operation, or a row of a file, that cannot be read fails alone, in a result of a 200.
            {"include-operation-id": "bulk_tasks", "checks": {"negative_data_rejection": {"enabled": False}}},
            {"include-operation-id": "import_tasks", "checks": {"negative_data_rejection": {"enabled": False}}},
        ],
    }
    config = SchemathesisConfig.from_dict(wanted | ({} if seed is None else {"seed": seed}))
    schema = schemathesis.openapi.from_path(SPECS / f"{service}.json", config=config)
    found = Findings()
    with _plausible(), _streams_are_left(), warnings.catch_warnings():
        # Else it would be raised in the place of what was found with such a request.
        warnings.filterwarnings("ignore", "Generating overly large repr", HypothesisWarning)
        for event in from_schema(schema).execute():
            match event:
                case events.ScenarioFinished():
                    found.note(event.phase.value, event.recorder)
                case events.NonFatalError():
                    found.failures[f"{event.label}: schemathesis"] = event.info.format()
                case events.FatalError():
                    raise event.exception
                case _:
                    pass
    return found


@contextmanager
def _streams_are_left() -> Iterator[None]:
    """Read of a stream, which never ends, what comes soon; it may begin as late as any other answer."""

    def read_what_comes_soon(chunks: Iterable[bytes], _: object, max_events: int) -> tuple[bytes, bool]:
        read: tuple[bytes, bool] = read_event_stream(chunks, _STREAM_SECONDS, max_events)
        return read

    with patch.object(sending, "read_event_stream", read_what_comes_soon):
        yield


def _number(value: object) -> int:
    return value if type(value) is int else 0


@contextmanager
def _plausible() -> Iterator[None]:
    """Let most requests come through to what they are about.

    Else nearly all of them would ask for tasks that are not there, under the one key, and for the one version, of the
    documented examples.
    """
    numbers = itertools.count()

    @schemathesis.hook
    def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
        number = next(numbers)
        for name, value in dict(case.path_parameters).items():
            if type(value) is int and value > KNOWN_IDS and value % 4 != 3:  # 2^63 - 1 stays
                case.path_parameters[name] = 1 + value % KNOWN_IDS
        ending = _ENDS_A_MEMBERSHIP.search(f"{case.method} {case.operation.path}")
        if ending is not None and 1 <= _number(case.path_parameters["engagement_id"]) <= KNOWN_IDS:
            # Engagements of its own for each of these, so that the caller stays in the others.
            own = ("/leave", "/transfer").index(ending[1]) if ending[1] else 2
            case.path_parameters["engagement_id"] = KNOWN_IDS - 2 * own - number % 2
        if "user_id" in case.path_parameters and number % 2:
            case.path_parameters["user_id"] = "bob"  # who is in every engagement
        if case.headers.get("Idempotency-Key") == _EXAMPLE_KEY and number % 4:
            case.headers["Idempotency-Key"] = f"key-{number}"
        for name in ("If-Match", "If-None-Match"):
            if case.headers.get(name) == _EXAMPLE_TAG and number % 8:
                del case.headers[name]
        if isinstance(case.body, dict) and "confirm" in case.body:
            case.body["confirm"] = "nobody"  # or the caller would be erased, and refused from then on

    try:
        yield
    finally:
        unregister(before_call)
