"""Structured logs on standard error: lines for people on a terminal, JSON elsewhere.

What libraries, and our packages without structlog, say by the standard library's logging comes the same.
"""

import logging
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog


def configure(level: str = "INFO", *, json: bool | None = None, stream: TextIO | None = None) -> None:
    """Set up logging for a process; `json` None means JSON unless the stream is a terminal.

    Of other loggers warnings are written, or what their own level lets through.
    """
    out = stream or sys.stderr
    as_json = not out.isatty() if json is None else json
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    logging.getLogger().addHandler(_FORWARD)


def get(component: str) -> Any:
    """A logger that says which component speaks."""
    return structlog.get_logger(component=component)


class _Forward(logging.Handler):
    """Records of the standard library as our lines; the one mapping of a plain message is its fields."""

    def emit(self, record: logging.LogRecord) -> None:
        given = record.args if isinstance(record.args, Mapping) and "%" not in str(record.msg) else {}
        try:
            get(record.name).log(record.levelno, record.getMessage(), exc_info=record.exc_info, **given)
        except (TypeError, ValueError, KeyError):
            # a message that lacks its fields, or a field of a name that is ours, is not the caller's fault
            self.handleError(record)


_FORWARD = _Forward()
