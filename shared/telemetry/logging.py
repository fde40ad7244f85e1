"""One way to log: structlog, one JSON object per line on stderr (or coloured text for people), with the ids
of the call.

Records of the standard library's logging (grpc, uvicorn) come out the same way. The line that every call
leaves is rendered by `shared.telemetry.request_log`, which keeps to the same keys.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO, cast

import structlog
from pydantic import Field
from structlog.typing import Processor

from shared.settings import Settings
from shared.telemetry import request_log
from shared.telemetry.correlation import current_correlation

Level = Literal["debug", "info", "warning", "error"]
_LEVELS: dict[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class LogSettings(Settings):
    """SENSORIUM_LOG_*: how much is logged, and for whom."""

    level: Level = "info"
    format: Literal["json", "text"] = "json"
    calls_per_s: int = Field(default=100, ge=0)
    """Lines a second for calls that ended well within a second; the next line says how many were `skipped`. Calls that
    failed or were slow are always told of."""


def configure(
    level: str = "info", json: bool = True, stream: TextIO | None = None, *, calls_per_s: int | None = None
) -> None:
    """Sets up logging for the process: `level` and everything above it goes to `stream` (default: stderr).

    calls_per_s: as in LogSettings; None = a line for every call.
    """
    stream = cast(TextIO, _Stream(sys.stderr if stream is None else stream))
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        _add_correlation,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
        if json
        else [structlog.dev.ConsoleRenderer(colors=stream.isatty())]
    )
    structlog.configure(
        processors=[*shared, *last],
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    foreign = logging.StreamHandler(stream)
    foreign.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name_room],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    foreign.addFilter(_is_news)
    root = logging.getLogger()
    root.handlers[:] = [foreign]
    request_log.configure(_LEVELS[level], json=json, stream=stream, calls_per_s=calls_per_s)
    set_level(level)


def get_level() -> str:
    """What is logged now: this level and everything above it."""
    threshold = request_log.get_threshold()
    return next(name for name, number in _LEVELS.items() if number == threshold)


def set_level(level: str) -> None:
    """Logs `level` and everything above it from now on; format and stream stay."""
    threshold = _LEVELS[level]
    structlog.configure(
        **{**structlog.get_config(), "wrapper_class": structlog.make_filtering_bound_logger(threshold)}
    )
    # A foreign library's INFO is our DEBUG: what we tell at INFO is one line per call and per change of
    # state.
    logging.getLogger().setLevel(threshold if threshold != logging.INFO else logging.WARNING)
    request_log.set_threshold(threshold)


def get_logger(room: str) -> Any:
    """The logger of one room, e.g. `rpc`. Its methods take an event (a constant text) and keyword values."""
    return structlog.get_logger(room=room)


class _Stream:
    """A stream whose disk may be full, or whose reader gone: a line that is lost must not take the process along."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.isatty = stream.isatty

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def _is_news(record: logging.LogRecord) -> bool:
    """False for grpcio's stack of a reply that could not be sent, since its client had left: the call's own line says so."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"


def _add_correlation(logger: object, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    correlation = current_correlation()
    if correlation.request_id:
        event.setdefault("request_id", correlation.request_id)
        if (trace := correlation.trace) is not None:
            event.setdefault("trace_id", trace.trace_id)
            event.setdefault("span_id", trace.span_id)
    return event


def _name_room(logger: object, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record = event.get("_record")
    event.setdefault("room", record.name if record is not None else "python")
    return event
