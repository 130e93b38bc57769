"""Structured logs of the hosts: JSON for machines, coloured lines on a terminal."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any, TextIO

import structlog

from wire.text import line

LEVELS = ("debug", "info", "warning", "error")
"""What `--log-level` takes."""

_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
"""Without the values of variables, as structlog would: they are guests' memory and state."""


def _cleaned(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Whatever text gets as far as here: a peer's is cleaned where it comes in, too."""
    return {line(key): _clean(value) for key, value in event.items()}


def _clean(value: Any) -> Any:
    """What is no text keeps its type for JSON, and is written with its escapes on a terminal."""
    match value:
        case str():
            return line(value)
        case list() | tuple():
            return [_clean(each) for each in value]
        case dict():
            return {line(str(key)): _clean(each) for key, each in value.items()}
        case _:
            return value


def _plain_traceback(out: TextIO, info: structlog.typing.ExcInfo) -> None:
    """Without values, as above; what an exception says may be text of a peer."""
    error: BaseException | None = info[1]
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for each in reversed(chain):
        out.write("\nTraceback (most recent call last):\n")
        out.writelines(traceback.format_tb(each.__traceback__))
        out.write(f"{type(each).__qualname__}: {line(str(each))}")


def configure_logs(level: str, host: str) -> None:
    """Send this process's logs to stderr, from structlog and from libraries alike.

    Args:
        level: one of `LEVELS`.
        host: name of the service, on every line.
    """
    terminal = sys.stderr.isatty()

    # Not by context variables: the threads of a server begin without them.
    def named(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event["host"] = host
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        named,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = (
        [_cleaned, structlog.dev.ConsoleRenderer(exception_formatter=_plain_traceback)]
        if terminal
        else [_TRACEBACKS, _cleaned, structlog.processors.JSONRenderer()]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
