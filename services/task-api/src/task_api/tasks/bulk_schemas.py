"""What a bulk request may say, and what it is answered."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import ErrorDetails

from chassis.errors import ApiError, FieldProblem, InvalidInputError, field_problems
from chassis.pagination import MAX_BIGINT
from task_api.tasks.schemas import TaskCreate, TaskOut, TaskPatch, TaskRequest

MAX_OPERATIONS: Final = 500
_WHICH: Final = "must be create, update, complete, reopen, delete or restore"

_Id = Annotated[int, Field(strict=True, ge=1, le=MAX_BIGINT, description="of the task", examples=[7])]
_Version = Annotated[
    int | None,
    Field(strict=True, ge=1, le=MAX_BIGINT, description="that the task must have, else 412", examples=[3]),
]


class CreateOperation(TaskRequest):
    """Make a task."""

    op: Literal["create"]
    task: TaskCreate


class UpdateOperation(TaskRequest):
    """Change the fields that `changes` names and no other."""

    op: Literal["update"]
    id: _Id
    version: _Version = None
    changes: TaskPatch


class StateOperation(TaskRequest):
    """Complete, reopen, delete or restore; once a task is deleted, there is only restore."""

    op: Literal["complete", "reopen", "delete", "restore"]
    id: _Id
    version: _Version = None


class RefusedOperation:
    """An operation that cannot be read: it fails alone, the others are done."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        detail = "; ".join(f"{problem.field}: {problem.message}" for problem in problems[:3])
        self.error: ApiError = InvalidInputError(detail, errors=problems)


Operation = CreateOperation | UpdateOperation | StateOperation


def _alone(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    try:
        return validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        return RefusedOperation(field_problems([_within(problem) for problem in problems]))


def _within(problem: ErrorDetails) -> dict[str, Any]:
    """Say where in the operation a problem is; the library begins with the name of the operation."""
    message = _WHICH if problem["type"].startswith("union_tag") else problem["msg"]
    return {"loc": problem["loc"][1:] or ("op",), "msg": message}


class BulkIn(TaskRequest):
    """Operations, done in this order."""

    operations: Annotated[
        list[Annotated[Operation, Field(discriminator="op"), WrapValidator(_alone)]],
        Field(min_length=1, max_length=MAX_OPERATIONS),
    ]

    def each(self) -> list[Operation | RefusedOperation]:
        """Give the operations, with those that cannot be read."""
        return [*self.operations]


class BulkProblem(BaseModel):
    """Why an operation was not done, as its own request would have been told."""

    code: Annotated[str, Field(description="stable, for programs", examples=["precondition_failed"])]
    detail: Annotated[
        str, Field(examples=["The task was changed meanwhile and is at version 4: read it and decide again."])
    ]
    errors: Annotated[list[FieldProblem] | None, Field(examples=[None])]


class BulkResult(BaseModel):
    """What became of one operation."""

    index: Annotated[int, Field(description="of the operation in the request, from 0", examples=[0])]
    status: Annotated[
        int, Field(description="as its own request would have been answered: 200, 201, 204, 403, …", examples=[412])
    ]
    id: Annotated[int | None, Field(description="of the task; null when none was made or named", examples=[7])]
    task: Annotated[
        TaskOut | None,
        Field(description="after this operation; null when it failed or deleted the task", examples=[None]),
    ]
    error: BulkProblem | None


class BulkOut(BaseModel):
    """One result for each operation, in the order of the request."""

    results: list[BulkResult]
    succeeded: Annotated[int, Field(examples=[0])]
    failed: Annotated[int, Field(examples=[1])]


EXAMPLE: Final[dict[str, Any]] = {
    "operations": [
        {"op": "create", "task": {"title": "Buy milk", "priority": "high"}},
        {"op": "update", "id": 7, "version": 3, "changes": {"due_at": "2027-01-31T09:00:00Z"}},
        {"op": "complete", "id": 8},
        {"op": "delete", "id": 9},
    ]
}
