"""Whatever is sent, the answer is one that the committed document promises: status, type, headers and body.

`make fuzz` (EXAMPLES=500 SEED=7) sends more, and other, random requests, which use what earlier answers brought.
"""

import asyncio
import os
import sys
from typing import Final

import pytest
from tests.contract.generated import Findings, send
from tests.contract.running import CALLER, SERVICES, running

from chassis.openapi import operations
from contracts.apis import document_of
from devstack.throwaway import DatabaseFactory

EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", "15"))
SEED: Final = int(os.environ["FUZZ_SEED"]) if "FUZZ_SEED" in os.environ else None

# The service runs in a thread of this process, and shares Python's random numbers with what makes the requests.
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
SECRETS: Final = {("POST", "/api/v1/engagements/invitations/accept")}
"""What wants a secret in its body that only another answer has; test_engagements.py gives it."""
ENDS_THE_CALLER: Final = {"erase_account", "get_erasure"}
"""What succeeds only for somebody who is refused everything else: services/task-api/tests/test_erasure.py."""
each_service = pytest.mark.parametrize("service", SERVICES)


def shown(found: Findings) -> str:
    return "\n\n".join(f"{name}\n{example}" for name, example in found.failures.items())


@each_service
async def test_every_answer_to_a_caller_is_as_documented(service: str, databases: DatabaseFactory) -> None:
    async with running(service, databases) as there:
        found = await asyncio.to_thread(
            send, service, there.address, headers=CALLER, examples=EXAMPLES, thorough=True, seed=SEED
        )
    sys.stdout.write(f"{service}: {found}\n")
    assert not found.failures, shown(found)
    # A test that cannot fail would be one whose requests are all refused before they mean anything.
    for path, method, operation in operations(document_of(service)):
        if operation["operationId"] in ENDS_THE_CALLER:
            continue
        answers = found.answers[f"{method} {path}"]
        if (method, path) in SECRETS:
            continue
        assert [status for status in answers if 200 <= status < 300], f"{method} {path}: {answers}"


@each_service
async def test_every_answer_to_nobody_is_as_documented(service: str, databases: DatabaseFactory) -> None:
    async with running(service, databases) as there:
        found = await asyncio.to_thread(
            send, service, there.address, headers={}, examples=max(1, EXAMPLES // 3), thorough=False, seed=SEED
        )
    sys.stdout.write(f"{service}: {found}\n")
    assert not found.failures, shown(found)
    for path, method, operation in operations(document_of(service)):
        if operation["security"]:
            # What is too long, and a body that is not JSON, is told so before its sender is known.
            possible = {401, 414} | ({400, 413} if "requestBody" in operation else set())
            assert 401 in found.answers[f"{method} {path}"].keys() <= possible, f"{method} {path}"
