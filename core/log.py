"""Structured logs on standard error: lines for people on a terminal, JSON elsewhere."""

import logging
import sys
from typing import Any, TextIO

import structlog


def configure(level: str = "INFO", *, json: bool | None = None, stream: TextIO | None = None) -> None:
    """Set up logging for a process; `json` None means JSON unless the stream is a terminal."""
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


def get(component: str) -> Any:
    """A logger that says which component speaks."""
    return structlog.get_logger(component=component)
