"""`/api/v1/tasks/export` and `/import`: parse, guard, one call, one answer."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from chassis.errors import ApiError, FieldProblem, InvalidInputError, documented
from chassis.identity import CurrentUser
from task_api.engagements.access import EngagementForbiddenError, EngagementNotFoundError
from task_api.engagements.spaces import Space
from task_api.idempotency.dependencies import MAX_KEY_CHARS, read_key
from task_api.portability.auth import TaskExportRead, TaskImportWrite
from task_api.portability.exporting import ExportFormat, TaskExport
from task_api.portability.importing import TaskImport, UploadStalledError
from task_api.portability.reading import CsvReader, JsonReader, Reader
from task_api.portability.records import InvalidFileError
from task_api.portability.schemas import CSV_EXAMPLE, IMPORT_EXAMPLE, ImportReport, PortableTask, TaskFile
from task_api.portability.transfers import TooManyTransfersError, Transfers, TransfersExhaustedError
from task_api.tasks.list_parameters import EngagementParameter
from task_api.tasks.schemas import TimeZone

IMPORT_PATH: Final = "/tasks/import"
_MEDIA_TYPES: Final[dict[ExportFormat, str]] = {"json": "application/json", "csv": "text/csv; charset=utf-8"}

router = APIRouter(prefix="/tasks", tags=["import and export"])


class UnsupportedFileError(ApiError):
    """Send the file as application/json or text/csv, in UTF-8 and not compressed."""

    status, code = 415, "unsupported_media_type"

    def __init__(self) -> None:
        super().__init__("Send the file as application/json or text/csv, in UTF-8 and not compressed.")


class UploadBrokenOffError(ApiError):
    """The connection ended before the file did; send it again with the same key."""

    status, code = 400, "upload_broken_off"


def get_export(request: Request) -> TaskExport:
    """Give a route the rules of exports."""
    service: TaskExport = request.app.state.task_export
    return service


def get_import(request: Request) -> TaskImport:
    """Give a route the rules of imports."""
    service: TaskImport = request.app.state.task_import
    return service


async def get_transfer(user: CurrentUser, request: Request) -> AsyncIterator[None]:
    """Hold a place among the exports and imports under way, until the answer has ended, however it did."""
    transfers: Transfers = request.app.state.transfers
    with transfers.one_more(user.id):
        yield


def get_format(
    request: Request,
    wanted: Annotated[
        Literal["json", "csv"] | None,
        Query(alias="format", description="without it the `Accept` header decides, else it is json", examples=["csv"]),
    ] = None,
) -> ExportFormat:
    """Say in which form a file is wanted."""
    return wanted or ("csv" if "text/csv" in request.headers.get("accept", "") else "json")


def get_reader(
    request: Request,
    time_zone: Annotated[
        TimeZone, Query(description="of the dates in Todoist's CSV whose row names none", examples=["Europe/Paris"])
    ] = "UTC",
) -> Reader:
    """Say how the body is read.

    Raises:
        UnsupportedFileError: It is in no form that is read.
    """
    media_type, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    charset = parameters.partition("charset=")[2].strip('" ')
    encoded = request.headers.get("content-encoding", "identity")
    if charset in {"", "utf-8", "utf8", "us-ascii"} and encoded == "identity":
        if media_type.strip() == "application/json":
            return JsonReader()
        if media_type.strip() == "text/csv":
            return CsvReader(now=datetime.now(UTC), time_zone=time_zone)
    raise UnsupportedFileError


def get_import_key(
    request: Request,
    dry_run: Annotated[bool, Query(description="check the file and write nothing", examples=[True])] = False,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description=f"Names this import: any text of your own, at most {MAX_KEY_CHARS} characters, best a UUID. "
            "The file sent again under it goes on where it ended. Required unless `dry_run`",
            examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
        ),
    ] = None,
) -> str | None:
    """Give the key of an import; none for one that writes nothing.

    Raises:
        InvalidInputError: It is no key, or there is none.
    """
    del idempotency_key  # declared for the OpenAPI document: the framework reads one line only
    if dry_run:
        return None
    lines = request.headers.getlist("Idempotency-Key")
    if not lines:
        problem = FieldProblem(field="header.Idempotency-Key", message="is needed to import; dry_run=true goes without")
        raise InvalidInputError(f"{problem.field} {problem.message}", errors=[problem])
    return read_key(lines)


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Put what a schema refers to in its place: a route's own addition to the document cannot refer to components."""
    definitions = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:  # noqa: ANN401  (any JSON)
        if isinstance(node, dict):
            name = str(node.get("$ref", "")).rpartition("/")[2]
            return resolved(definitions[name]) if name else {key: resolved(value) for key, value in node.items()}
        return [resolved(one) for one in node] if isinstance(node, list) else node

    found: dict[str, Any] = resolved(schema)
    return found


_FILE_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "title": "TaskFileToImport",
    "required": ["format", "version", "tasks"],
    "properties": {
        "format": {"const": "taskwire-tasks"},
        "version": {"const": 1},
        "tasks": {"type": "array", "items": _inlined(PortableTask.model_json_schema())},
    },
}
_FILES: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "application/json": {"schema": _FILE_SCHEMA, "example": IMPORT_EXAMPLE},
        "text/csv": {"schema": {"type": "string"}, "example": CSV_EXAMPLE},
    },
}
_EXPORTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": TaskFile,
        "description": "The file",
        "content": {"text/csv": {"schema": {"type": "string"}, "example": CSV_EXAMPLE}},
        "headers": {
            "Content-Disposition": {
                "description": "`attachment`, with the name of the file",
                "schema": {"type": "string", "examples": ['attachment; filename="taskwire-tasks-2026-11-21.json"']},
            }
        },
    },
    **documented(EngagementForbiddenError, EngagementNotFoundError, TooManyTransfersError, TransfersExhaustedError),
}
_IMPORTED: Final = documented(
    EngagementForbiddenError,
    EngagementNotFoundError,
    UploadBrokenOffError,
    UploadStalledError,
    UnsupportedFileError,
    InvalidFileError,
    TooManyTransfersError,
    TransfersExhaustedError,
)


@router.get(
    "/export",
    summary="Export all of one's own tasks",
    response_class=StreamingResponse,
    responses=_EXPORTED,
    dependencies=[Depends(get_transfer, scope="request")],
)
async def export_tasks(
    user: TaskExportRead,
    export: Annotated[TaskExport, Depends(get_export)],
    wanted: Annotated[ExportFormat, Depends(get_format)],
    engagement_id: EngagementParameter = None,
) -> StreamingResponse:
    """Export the caller's tasks, or an engagement's, open and completed, as a file that an import takes: JSON or CSV.

    They come in the caller's own order, each followed by its subtasks. An answer that breaks off is not the whole.
    """
    pieces = await export.begin(Space(user.id, engagement_id), wanted)
    name = f"taskwire-tasks-{datetime.now(UTC).date()}.{wanted}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "private, no-store"}
    return StreamingResponse(pieces, headers=headers, media_type=_MEDIA_TYPES[wanted])


@router.post(
    "/import",
    status_code=HTTPStatus.OK,
    summary="Import tasks from a file",
    response_description="What became of the tasks in the file",
    responses=_IMPORTED,
    openapi_extra={"requestBody": _FILES},
    dependencies=[Depends(get_transfer, scope="request")],
)
async def import_tasks(
    user: TaskImportWrite,
    request: Request,
    importing: Annotated[TaskImport, Depends(get_import)],
    reader: Annotated[Reader, Depends(get_reader)],
    key: Annotated[str | None, Depends(get_import_key)],
    engagement_id: EngagementParameter = None,
) -> ImportReport:
    """Import tasks from a file that was exported, from CSV of one's own, or from Todoist's CSV as it is.

    Each task of the file is made or refused by itself; the answer names those that were refused. A file that cannot be
    read on ends the import there: correct it and send it again under the same key, nothing is made twice.
    """
    try:
        return await importing.run(user, Space(user.id, engagement_id), request.stream(), reader, key=key)
    except ClientDisconnect:
        raise UploadBrokenOffError("The connection ended before the file did.") from None
