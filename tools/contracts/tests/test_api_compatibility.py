"""What breaks a client of an HTTP API is refused by operation, place and rule; what only adds passes."""

import copy
from collections.abc import Callable
from typing import Any, Final

import pytest

from contracts.alternatives import resolved
from contracts.api_compatibility import ApiRule, ApiViolation, breaks, promised
from contracts.apis import document_of
from contracts.violations import Rule

Document = dict[str, Any]
Mutation = Callable[[Document], object]

RELEASED: Final[Document] = document_of("task-api")
TASKS: Final = "/api/v1/tasks"
ONE: Final = "/api/v1/tasks/{task_id}"
STRING: Final = {"type": "string"}


def operation(document: Document, path: str = TASKS, method: str = "get") -> Document:
    found: Document = document["paths"][path][method]
    return found


def fields(document: Document, schema: str) -> Document:
    found: Document = document["components"]["schemas"][schema]["properties"]
    return found


def required(document: Document, schema: str) -> list[str]:
    found: list[str] = document["components"]["schemas"][schema]["required"]
    return found


def parameter(document: Document, name: str, path: str = TASKS, method: str = "get") -> Document:
    found: Document = next(one for one in operation(document, path, method)["parameters"] if one["name"] == name)
    return found


def without_parameter(name: str) -> Mutation:
    return lambda document: operation(document)["parameters"].remove(parameter(document, name))


def new_parameter(*, needed: bool) -> Mutation:
    given = {"name": "colour", "in": "query", "required": needed, "schema": STRING}
    return lambda document: operation(document)["parameters"].append(given)


def removed_field(schema: str, name: str) -> Mutation:
    def mutate(document: Document) -> None:
        del fields(document, schema)[name]
        if name in document["components"]["schemas"][schema].get("required", []):
            required(document, schema).remove(name)

    return mutate


def new_required_field(schema: str, name: str) -> Mutation:
    def mutate(document: Document) -> None:
        fields(document, schema)[name] = STRING
        required(document, schema).append(name)

    return mutate


def problem_examples(document: Document, status: str, path: str = ONE) -> Document:
    answers = operation(document, path)["responses"]
    answers[status] = copy.deepcopy(resolved(document, answers[status]))  # of its own: others share it, too
    found: Document = answers[status]["content"]["application/problem+json"]["examples"]
    return found


def move_code(document: Document) -> None:
    code = problem_examples(document, "404").pop("task_not_found")
    problem_examples(document, "403")["task_not_found"] = code


POST: Final = f"POST {TASKS}"
GET: Final = f"GET {TASKS}"

# Each with the operation, the part, the field and the rule of its first violation.
BREAKING: Final[dict[str, tuple[Mutation, str, str, str, Rule | ApiRule]]] = {
    "path removed": (lambda d: d["paths"].pop(ONE), f"GET {ONE}", "", "", ApiRule.OPERATION_REMOVED),
    "path renamed": (
        lambda d: d["paths"].update({"/api/v1/todos": d["paths"].pop(TASKS)}),
        GET,
        "",
        "",
        ApiRule.OPERATION_REMOVED,
    ),
    "operation removed": (
        lambda d: d["paths"][ONE].pop("put"),
        f"PUT {ONE}",
        "",
        "",
        ApiRule.OPERATION_REMOVED,
    ),
    "operation id changed": (
        lambda d: operation(d).update(operationId="tasks"),
        GET,
        "",
        "",
        ApiRule.OPERATION_ID_CHANGED,
    ),
    "another credential wanted": (
        lambda d: operation(d).update(security=[{"HTTPBearer": [], "ApiKey": []}]),
        GET,
        "",
        "",
        ApiRule.SECURITY_ADDED,
    ),
    "a credential wanted where none was": (
        lambda d: operation(d, "/health/live").update(security=[{"HTTPBearer": []}]),
        "GET /health/live",
        "",
        "",
        ApiRule.SECURITY_ADDED,
    ),
    "a scope wanted": (
        lambda d: operation(d).update(security=[{"HTTPBearer": ["tasks:read"]}]),
        GET,
        "",
        "",
        ApiRule.SECURITY_ADDED,
    ),
    "the same credential in another scheme": (
        lambda d: d["components"]["securitySchemes"]["HTTPBearer"].update(scheme="basic"),
        GET,
        "",
        "",
        ApiRule.SECURITY_ADDED,
    ),
    "parameter removed": (without_parameter("offset"), GET, "query parameters", "offset", Rule.FIELD_REMOVED),
    "new required parameter": (
        new_parameter(needed=True),
        GET,
        "query parameters",
        "colour",
        Rule.FIELD_NEW_AND_REQUIRED,
    ),
    "parameter made required": (
        lambda d: parameter(d, "completed").update(required=True),
        GET,
        "query parameters",
        "completed",
        Rule.FIELD_MADE_REQUIRED,
    ),
    "smaller page": (
        lambda d: parameter(d, "limit")["schema"].update(maximum=100),
        GET,
        "query parameters",
        "limit",
        Rule.RANGE_NARROWED,
    ),
    "another default": (
        lambda d: parameter(d, "limit")["schema"].update(default=20),
        GET,
        "query parameters",
        "limit",
        Rule.DEFAULT_CHANGED,
    ),
    "body removed": (
        lambda d: operation(d, TASKS, "post").pop("requestBody"),
        POST,
        "request body",
        "",
        ApiRule.BODY_REMOVED,
    ),
    "body wanted where none was": (
        lambda d: operation(d, f"{ONE}/toggle", "post").update(
            requestBody={"required": True, "content": {"application/json": {"schema": STRING}}}
        ),
        f"POST {ONE}/toggle",
        "request body",
        "",
        ApiRule.BODY_REQUIRED,
    ),
    "media type of a request": (
        lambda d: operation(d, TASKS, "post")["requestBody"].update(content={"text/csv": {"schema": STRING}}),
        POST,
        "request body",
        "",
        ApiRule.MEDIA_TYPE_REMOVED,
    ),
    "new required field in a request": (
        new_required_field("TaskCreate", "list_id"),
        POST,
        "request body",
        "list_id",
        Rule.FIELD_NEW_AND_REQUIRED,
    ),
    "field of a request made required": (
        lambda d: required(d, "TaskCreate").append("priority"),
        POST,
        "request body",
        "priority",
        Rule.FIELD_MADE_REQUIRED,
    ),
    "field removed from a request that takes no others": (
        removed_field("TaskCreate", "priority"),
        POST,
        "request body",
        "priority",
        Rule.FIELD_REMOVED,
    ),
    "value removed from an enum in a request": (
        lambda d: fields(d, "TaskCreate")["priority"].update(enum=["high", "medium"]),
        POST,
        "request body",
        "priority",
        Rule.VALUES_REMOVED,
    ),
    "shorter titles": (
        lambda d: fields(d, "TaskCreate")["title"].update(maxLength=80),
        POST,
        "request body",
        "title",
        Rule.RANGE_NARROWED,
    ),
    "narrower type in a request": (
        lambda d: fields(d, "TaskCreate").update(description=STRING),
        POST,
        "request body",
        "description",
        Rule.TYPE_NARROWED,
    ),
    "answer removed": (
        lambda d: operation(d)["responses"].update({"206": operation(d)["responses"].pop("200")}),
        GET,
        "response 200",
        "",
        ApiRule.RESPONSE_REMOVED,
    ),
    "media type of an answer": (
        lambda d: operation(d)["responses"]["200"].update(content={"text/csv": {"schema": STRING}}),
        GET,
        "response 200",
        "",
        ApiRule.MEDIA_TYPE_REMOVED,
    ),
    "header removed": (
        lambda d: operation(d, TASKS, "post")["responses"]["201"]["headers"].pop("Location"),
        POST,
        "response 201 headers",
        "Location",
        Rule.FIELD_REMOVED,
    ),
    "field removed from an answer": (
        removed_field("TaskOut", "priority"),
        POST,
        "response 201",
        "priority",
        Rule.FIELD_REMOVED,
    ),
    "field of an answer not always there": (
        lambda d: required(d, "TaskOut").remove("version"),
        POST,
        "response 201",
        "version",
        Rule.FIELD_NOT_ALWAYS_THERE,
    ),
    "wider type in an answer": (
        lambda d: fields(d, "TaskOut").update(title={"anyOf": [STRING, {"type": "null"}]}),
        POST,
        "response 201",
        "title",
        Rule.TYPE_WIDENED,
    ),
    "value added to an enum in an answer": (
        lambda d: fields(d, "TaskOut")["priority"].update(enum=["high", "medium", "low", "urgent"]),
        POST,
        "response 201",
        "priority",
        Rule.VALUES_ADDED,
    ),
    "error code renamed": (
        lambda d: problem_examples(d, "404").update(gone=problem_examples(d, "404").pop("task_not_found")),
        f"GET {ONE}",
        "response 404",
        "",
        ApiRule.ERROR_CODE_REMOVED,
    ),
    "error code under another status": (move_code, f"GET {ONE}", "response 404", "", ApiRule.ERROR_CODE_REMOVED),
    "error answer removed": (
        lambda d: operation(d, ONE)["responses"].pop("404"),
        f"GET {ONE}",
        "response 404",
        "",
        ApiRule.ERROR_CODE_REMOVED,
    ),
    "error of another shape": (
        removed_field("Problem", "request_id"),
        GET,
        "response 401",
        "request_id",
        Rule.FIELD_REMOVED,
    ),
}

ADDITIVE: Final[dict[str, Mutation]] = {
    "nothing": lambda _: None,
    "new path": lambda d: d["paths"].update({"/api/v1/tags": copy.deepcopy(d["paths"][TASKS])}),
    "new operation": lambda d: d["paths"][TASKS].update(delete=copy.deepcopy(operation(d, ONE, "delete"))),
    "new optional parameter": new_parameter(needed=False),
    "larger page": lambda d: parameter(d, "limit")["schema"].update(maximum=500),
    "new optional field in a request": lambda d: fields(d, "TaskCreate").update(colour=STRING),
    "field of a request made optional": lambda d: required(d, "TaskReplace").remove("completed"),
    "value added to an enum in a request": lambda d: fields(d, "TaskCreate")["priority"].update(
        enum=["high", "medium", "low", "urgent"]
    ),
    "longer titles in a request": lambda d: fields(d, "TaskCreate")["title"].update(maxLength=400),
    "new field in an answer": new_required_field("TaskOut", "colour"),
    "value removed from an enum in an answer": lambda d: fields(d, "TaskOut")["priority"].update(enum=["high"]),
    "nullable field of an answer always set": lambda d: fields(d, "TaskOut").update(description=STRING),
    "new answer": lambda d: operation(d)["responses"].update({"304": {"description": "Not modified"}}),
    "new header": lambda d: operation(d)["responses"]["200"]["headers"].update(ETag={"schema": STRING}),
    "new error code": lambda d: problem_examples(d, "404").update(list_not_found={}),
    "new media type": lambda d: operation(d)["responses"]["200"]["content"].update({"text/csv": {"schema": STRING}}),
    "a second way to sign in": lambda d: operation(d)["security"].append({"ApiKey": []}),
    "other words": lambda d: (
        operation(d).update(summary="Tasks", description="All of them", tags=["todo"]),
        fields(d, "TaskOut")["title"].update(description="a title", examples=["x"]),
    ),
}


def violations(mutation: Mutation) -> list[ApiViolation]:
    current = copy.deepcopy(RELEASED)
    mutation(current)
    return list(breaks(promised(current), promised(RELEASED)))


@pytest.mark.parametrize("name", BREAKING)
def test_a_breaking_change_is_refused_with_operation_part_field_and_rule(name: str) -> None:
    mutation, operation, part, field, rule = BREAKING[name]
    found = violations(mutation)
    assert (operation, part, field, rule) in {(one.operation, one.part, one.field, one.rule) for one in found}
    assert {one.rule for one in found} - {ApiRule.ERROR_CODE_REMOVED, Rule.FIELD_NOT_ALWAYS_THERE} <= {rule}


@pytest.mark.parametrize("name", ADDITIVE)
def test_what_only_adds_passes(name: str) -> None:
    assert violations(ADDITIVE[name]) == []


def test_every_rule_has_its_breaking_change() -> None:
    assert {*ApiRule} - {rule for *_, rule in BREAKING.values()} == set()


def test_a_violation_reads_as_a_sentence() -> None:
    mutation, *_ = BREAKING["smaller page"]
    (violation,) = violations(mutation)
    assert str(violation) == (
        "GET /api/v1/tasks, query parameters, limit: maximum was 200, is 100; "
        "requests of today's clients may lie outside  [range-narrowed]"
    )


def test_fields_called_like_words_are_no_words() -> None:
    kept = promised(RELEASED)
    assert {"title", "description"} <= fields(kept, "TaskOut").keys()
    assert "description" not in fields(kept, "TaskOut")["version"]
    assert "summary" not in operation(kept)
