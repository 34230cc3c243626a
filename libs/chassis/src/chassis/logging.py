"""Structured logs: one JSON object a line on stdout, from structlog and from every library alike, without secrets."""

import logging
import sys
from collections.abc import Iterable
from typing import TextIO

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

from chassis.secrecy import Redaction

_QUIETER = {"uvicorn.access": logging.WARNING, "uvicorn.error": logging.WARNING, "httpx2": logging.WARNING}


def configure_logging(*, service: str, level: str, stream: TextIO | None = None, secrets: Iterable[str] = ()) -> None:
    """Send all logs of this process to stdout as JSON lines.

    Args:
        service: Value of the `service` field.
        level: Name of the lowest level that is written, e.g. `INFO`.
        stream: Where to write instead of stdout.
        secrets: What must never be written; it is masked, as is what looks like a credential.
    """

    def add_service(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
        _add_trace,
        add_service,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
                Redaction(secrets),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, quiet_level in _QUIETER.items():
        logging.getLogger(name).setLevel(quiet_level)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Give the logger of a module; call with `__name__`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _add_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event
