"""The OpenAPI documents of all services: valid, complete for every operation, and true about what they show.

Who adds a route and leaves something out is told here which operation lacks what.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

from chassis.errors import MEDIA_TYPE, ApiError
from chassis.openapi import bodies, operations
from chassis.openapi_examples import NoExampleError, example_of, resolved
from chassis.paths import API_PREFIX
from chassis.testing import serving
from contracts.api_compatibility import ApiRule
from contracts.apis import APPLICATIONS, document_of

Json = dict[str, Any]

ROOT: Final = Path(__file__).parents[2]


def operations_in_full(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Each operation with the answers it refers to written out, as a client understands it."""
    for path, method, operation in operations(document):
        answers = {status: resolved(document, answer) for status, answer in operation["responses"].items()}
        yield path, method, operation | {"responses": answers}


SERVICES: Final = [*APPLICATIONS]
DOCUMENTS: Final = {service: document_of(service) for service in SERVICES}
OPERATIONS: Final = [
    pytest.param(service, path, method, operation, id=f"{service} {method} {path}")
    for service, document in DOCUMENTS.items()
    for path, method, operation in operations_in_full(document)
]
each_operation = pytest.mark.parametrize(("service", "path", "method", "operation"), OPERATIONS)
each_service = pytest.mark.parametrize("service", SERVICES)

# Routes that are no part of the API: for machines of the operator, for daprd, for people.
HIDDEN: Final = re.compile(r"/(metrics|openapi\.json|docs(/.*)?|dapr/.*|events/.*|internal/.*)")
# The address of a feed holds its token, for which OpenAPI has no security scheme.
OPEN: Final = re.compile(r"/health/.*|/api/v1/calendars/{token}\.ics")


def errors_of(operation: Json) -> list[Json]:
    return [answer for status, answer in operation["responses"].items() if status >= "4"]


def problems(operation: Json, status: str) -> Json:
    found: Json = operation["responses"][status]["content"][MEDIA_TYPE]["examples"]
    return found


@each_service
def test_it_is_valid_openapi_3_1(service: str) -> None:
    assert DOCUMENTS[service]["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(DOCUMENTS[service]).validate()


@each_service
def test_the_committed_document_is_the_one_the_service_gives(service: str) -> None:
    committed = ROOT / "specs" / "openapi" / f"{service}.json"
    assert json.loads(committed.read_text(encoding="utf-8")) == DOCUMENTS[service]


@each_service
def test_every_route_is_in_the_document_or_hidden_for_a_reason(service: str) -> None:
    app = APPLICATIONS[service]()
    shown = {(path, method) for path, method, _ in operations(app.openapi())}
    there = {(path, method) for path, method in routes(app) if not HIDDEN.fullmatch(path)}
    assert there == shown
    assert any(path.startswith(API_PREFIX) for path, _ in shown)


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every path and method that the router answers, whatever the document says."""
    for context in iter_route_contexts(app.routes):
        for method in (context.methods or set()) - {"HEAD"}:
            yield str(context.path).replace(":path}", "}"), method  # how far a parameter goes is not in the document


@each_service
def test_operation_ids_are_unique_and_names(service: str) -> None:
    counted = Counter(operation["operationId"] for _, _, operation in operations(DOCUMENTS[service]))
    assert [name for name, times in counted.items() if times > 1] == []
    assert [name for name in counted if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []


@each_operation
def test_it_says_what_it_does(service: str, path: str, method: str, operation: Json) -> None:
    missing = [name for name in ("operationId", "summary", "description", "tags") if not operation.get(name)]
    assert missing == []
    assert not operation["summary"].endswith(".")
    assert operation["summary"] != operation["operationId"].replace("_", " ").title(), "FastAPI's guess: set summary"
    vague = [s for s, response in operation["responses"].items() if response["description"] == "Successful Response"]
    assert [status for status in vague if status != "204"] == [], "set response_description"


@each_operation
def test_it_says_who_may_call_it(service: str, path: str, method: str, operation: Json) -> None:
    schemes = DOCUMENTS[service]["components"]["securitySchemes"]
    if OPEN.fullmatch(path):
        assert operation["security"] == []
        return
    assert [schemes[name]["scheme"] for needed in operation["security"] for name in needed] == [
        "bearer",
        "taskwire-hmac-sha256",
    ]


@each_operation
def test_it_declares_every_error_with_an_example(service: str, path: str, method: str, operation: Json) -> None:
    wanted = {"500"}
    if not OPEN.fullmatch(path):
        wanted |= {"401", "503"}
    if "requestBody" in operation:
        wanted |= {"400", "413", "415", "422"}
    if operation.get("parameters"):
        wanted |= {"422"}
    if "{" in path:
        wanted |= {"404"}
    assert wanted <= operation["responses"].keys()
    for status in operation["responses"].keys() - {"200", "201", "202", "204", "304"}:
        assert operation["responses"][status]["content"].keys() == {MEDIA_TYPE}
        examples = problems(operation, status)
        assert examples
        for code, example in examples.items():
            value = example["value"]
            assert (str(value["status"]), value["code"]) == (status, code)
            assert example["summary"]


@each_operation
def test_every_body_has_an_example_that_fits_its_schema(service: str, path: str, method: str, operation: Json) -> None:
    document = DOCUMENTS[service]
    for name, content in bodies(operation):
        shown = [one["value"] for one in content.get("examples", {}).values()]
        shown += [content["example"]] if "example" in content else []
        try:
            assert shown or example_of(document, content["schema"]), name
        except NoExampleError as field:
            pytest.fail(f"{name}: {field} needs an example: Field(examples=[…])")
        assert shown, name
        schema = content["schema"] | {"components": document["components"]}
        for value in shown:
            Draft202012Validator(schema, format_checker=FormatChecker()).validate(value)


@each_operation
def test_parameters_and_answers_are_described(service: str, path: str, method: str, operation: Json) -> None:
    for parameter in operation.get("parameters", []):
        assert parameter.get("description") or parameter["in"] == "path", parameter["name"]
    for status, response in operation["responses"].items():
        assert {"X-Request-ID", "X-Correlation-ID"} <= response["headers"].keys(), status


@each_service
def test_an_error_that_operations_share_is_described_once(service: str) -> None:
    document = DOCUMENTS[service]
    described = [json.dumps(answer) for _, _, operation in operations(document) for answer in errors_of(operation)]
    shared = {json.dumps(answer): name for name, answer in document["components"]["responses"].items()}
    assert shared, "nothing is shared"
    assert not [shared[answer] for answer in described if answer in shared], "written out though it is shared"
    referred = Counter(answer for answer in described if "#/components/responses/" in answer)
    assert referred.keys() == {json.dumps({"$ref": f"#/components/responses/{name}"}) for name in shared.values()}
    assert min(referred.values()) > 1
    assert all(re.fullmatch(r"[A-Z][A-Za-z]+", name) for name in shared.values())


@each_service
def test_no_answer_is_an_object_of_anything(service: str) -> None:
    """A client is generated from this: `{"type": "object"}` would be no type at all."""
    schemas = DOCUMENTS[service]["components"]["schemas"]
    vague = {name for name, schema in schemas.items() if schema.get("type") == "object" and "properties" not in schema}
    assert vague == set()
    assert not [name for name in schemas if not re.fullmatch(r"[A-Z][A-Za-z]+", name)]
    assert "HTTPValidationError" not in schemas


@each_service
async def test_an_error_is_answered_as_it_is_documented(service: str) -> None:
    """Without a token, a wrong body, a wrong method: what needs no database."""
    document = DOCUMENTS[service]
    async with serving(APPLICATIONS[service]()) as client:
        asked = 0
        for path, method, operation in operations_in_full(document):
            if OPEN.fullmatch(path):
                continue
            response = await client.request(method, re.sub(r"{\w+}", "1", path), json={})
            assert response.status_code == HTTPStatus.UNAUTHORIZED
            problem = response.json()
            example = problems(operation, "401")[problem["code"]]["value"]
            assert problem.keys() == example.keys()
            assert (problem["status"], problem["title"]) == (example["status"], example["title"])
            assert response.headers["content-type"] == MEDIA_TYPE
            documented = {name.lower() for name in operation["responses"]["401"]["headers"]}
            assert documented <= {name.lower() for name in response.headers}
            asked += 1
        assert asked


@each_service
async def test_a_405_and_options_name_every_method_of_every_path(service: str) -> None:
    methods: dict[str, set[str]] = {}
    for path, method, _ in operations(DOCUMENTS[service]):
        methods.setdefault(path, set()).add(method)
    async with serving(APPLICATIONS[service]()) as client:
        for path, taken in methods.items():
            # `/tasks/bulk` is no task: a path that is written out is not one of a template, too.
            address = re.sub(r"{\w+}", "1", path)
            unused = min({"DELETE", "GET", "PATCH", "POST", "PUT"} - taken or {"TRACE"})
            for method, status in ((unused, 405), ("OPTIONS", 204)):
                response = await client.request(method, address)
                assert response.status_code == status, (method, path)
                wanted = taken | {"OPTIONS"} | ({"HEAD"} if "GET" in taken else set())
                assert response.headers["allow"] == ", ".join(sorted(wanted)), (method, path)


def test_every_code_that_can_be_raised_is_documented() -> None:
    """A new error class that no route declares would be an answer that clients do not expect."""
    documented = {
        code
        for document in DOCUMENTS.values()
        for _, _, operation in operations_in_full(document)
        for status in operation["responses"]
        if status >= "4"
        for code in problems(operation, status)
    }
    bases = {"not_found", "dead_letter_conflict"}  # only their subclasses are raised
    assert {error.code for error in subclasses(ApiError)} - documented - bases == set()


def subclasses(kind: type[ApiError]) -> Iterator[type[ApiError]]:
    for one in kind.__subclasses__():
        if one.__module__.startswith(("chassis", "task_api", "audit_worker", "notifier")):
            yield one
            yield from subclasses(one)


def test_every_rule_is_explained() -> None:
    page = (ROOT / "docs" / "api" / "README.md").read_text(encoding="utf-8")
    assert [rule for rule in ApiRule if f"`{rule}`" not in page] == []
