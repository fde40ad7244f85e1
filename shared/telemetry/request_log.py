"""The one line that every call leaves in the log, rendered by hand: it is the only line on the hot path.

Same keys and same stream as `shared.telemetry.logging`; a microsecond or two where the general way takes
twenty. Nothing is built while the level hides it, nor for more than so many good and quick calls a second: what a line
of those tells beyond the first hundred, the histograms tell better.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from typing import TextIO

import structlog

from shared.telemetry.correlation import Correlation

# A write gives the interpreter's lock away, and the front's thread is waiting for it: with one write for each call the
# line cost 6 µs of CPU instead of 3. So lines wait this long for company; a process that is killed loses as much.
_DELAY_S = 0.02
# A call that took so long is told of, however many there are.
_SLOW_S = 1.0


class _Sink:
    """Where lines go; shared by all methods, so that `configure` reaches those that are bound already."""

    def __init__(self) -> None:
        self.threshold = logging.INFO
        self.json = True
        self.stream: TextIO = sys.stderr
        self.calls_per_s: int | None = None
        self.skipped = 0  # since the last line
        self._left = 0  # lines of good calls that this second may still have
        self._counted_second = 0
        self._pending: list[str] = []
        self._second = 0
        self._prefix = ""

    def skips(self, now_s: float) -> bool:
        """Whether there are enough lines of good calls in this second; counts the call that goes without one."""
        if self.calls_per_s is None:
            return False
        second = int(now_s)
        if second != self._counted_second:
            self._counted_second, self._left = second, self.calls_per_s
        if self._left:
            self._left -= 1
            return False
        self.skipped += 1
        return True

    def put(self, line: str) -> None:
        """Takes a line; it is written within `_DELAY_S`, with those that came in the meantime."""
        self._pending.append(line)
        if len(self._pending) == 1:
            try:
                asyncio.get_running_loop().call_later(_DELAY_S, self.flush)
            except RuntimeError:
                # No event loop, no bursts.
                self.flush()

    def flush(self) -> None:
        """Writes what is pending."""
        pending, self._pending = self._pending, []
        if pending:
            self.stream.write("".join(pending))
            self.stream.flush()

    def format_time(self, now_s: float) -> str:
        second = int(now_s)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((now_s - second) * 1e6):06d}Z"


_sink = _Sink()


def configure(threshold: int, *, json: bool, stream: TextIO, calls_per_s: int | None) -> None:
    """Called by `logging.configure`."""
    _sink.threshold = threshold
    _sink.json = json
    _sink.calls_per_s, _sink.skipped = calls_per_s, 0
    flush()
    _sink.stream = stream


def get_threshold() -> int:
    """The lowest level, as a number of the standard library's logging, that is written."""
    return _sink.threshold


def set_threshold(threshold: int) -> None:
    """Called by `logging.set_level`."""
    _sink.threshold = threshold


def flush() -> None:
    """Writes what is pending; for the end of the process, when no loop will."""
    _sink.flush()


class RequestLog:
    """The log of one method, with everything that does not change from call to call rendered already."""

    def __init__(self, service: str, method: str, level: str = "info") -> None:
        self._service, self._method = service, method
        self._number = logging.getLevelNamesMapping()[level.upper()]
        # The order of keys is that of structlog's lines: values first, then level, ids, time.
        names = f'"service":{json.dumps(service)},"method":{json.dumps(method)}'
        self._head = f'{{"room":"rpc","event":"call",{names},"code":"'
        self._tail = f',"level":"{level}","request_id":"'

    def write(self, code: str, duration_s: float, correlation: Correlation) -> None:
        """Writes the line of one ended call, or passes over it. The request id must be one that `accept_request_id` let
        through.
        """
        if code == "OK" and self.passes_over(duration_s):
            return
        self.write_line(code, duration_s, correlation)

    def passes_over(self, duration_s: float) -> bool:
        """Whether a call that ended well gets no line; it is counted, so ask once."""
        sink = _sink
        return self._number < sink.threshold or (duration_s < _SLOW_S and sink.skips(time.time()))

    def write_line(self, code: str, duration_s: float, correlation: Correlation) -> None:
        """As `write`, for a call that is not passed over."""
        sink = _sink
        if self._number < sink.threshold:
            return
        now_s = time.time()
        skipped, sink.skipped = sink.skipped, 0
        trace = correlation.trace
        if not sink.json:
            values: dict[str, object] = {"service": self._service, "method": self._method, "code": code}
            if skipped:
                values["skipped"] = skipped
            log = structlog.get_logger(room="rpc")
            log.log(self._number, "call", **values, duration_s=round(duration_s, 6))
            return
        ids = "" if trace is None else f',"trace_id":"{trace.trace_id}","span_id":"{trace.span_id}"'
        unseen = f',"skipped":{skipped}' if skipped else ""
        sink.put(
            f'{self._head}{code}","duration_s":{duration_s:.6f}{unseen}{self._tail}{correlation.request_id}"'
            f'{ids},"timestamp":"{sink.format_time(now_s)}"}}\n'
        )
