"""Spans for statements, within the span of whoever sends them.

A statement outside any span gets none: the relay and the gauges ask the database twice a second, and each would be a
trace of its own. That is why these are not the spans of a library.
"""

from typing import Final
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import ExecutionContext

from chassis.tracing import fail as say_failed

_MAX_TEXT: Final = 2_000
_tracer = trace.get_tracer("taskwire.database")


def trace_statements(engine: Engine) -> None:
    """Have every statement of an engine that is sent within a span open one below it.

    Their text is what PostgreSQL is sent, with placeholders: values are no part of it.
    """
    database = engine.url.database or ""
    open_spans: WeakKeyDictionary[ExecutionContext, Span] = WeakKeyDictionary()

    def begin(_: Connection, __: object, statement: str, ___: object, context: ExecutionContext, ____: bool) -> None:
        if not trace.get_current_span().is_recording():
            return
        words = statement.split(maxsplit=1)
        operation = words[0].upper() if words else ""
        open_spans[context] = _tracer.start_span(
            f"{operation} {database}",
            kind=SpanKind.CLIENT,
            attributes={
                "db.system.name": "postgresql",
                "db.namespace": database,
                "db.operation.name": operation,
                "db.query.text": statement[:_MAX_TEXT],
            },
        )

    def end(_: Connection, __: object, ___: str, ____: object, context: ExecutionContext, _____: bool) -> None:
        if (span := open_spans.pop(context, None)) is not None:
            span.end()

    def fail(context: ExceptionContext) -> None:
        executed = context.execution_context
        if executed is not None and (span := open_spans.pop(executed, None)) is not None:
            say_failed(span, context.original_exception)
            span.end()

    event.listen(engine, "before_cursor_execute", begin)
    event.listen(engine, "after_cursor_execute", end)
    event.listen(engine, "handle_error", fail)
