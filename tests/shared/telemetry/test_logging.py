"""Log lines: one JSON object each, ids of the call, levels, foreign records; and the line of a call like all others."""

from __future__ import annotations

import io
import json
import logging as standard
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from grpc._cython.cygrpc import ExecuteBatchError

from shared.telemetry import logging, request_log
from shared.telemetry.correlation import Correlation, set_correlation
from shared.telemetry.request_log import RequestLog

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    handlers = standard.getLogger().handlers[:]
    level = standard.getLogger().level
    stream = io.StringIO()
    logging.configure("info", stream=stream)
    yield stream
    set_correlation(Correlation())
    logging.configure("info", stream=sys.__stderr__)
    standard.getLogger().handlers[:] = handlers
    standard.getLogger().setLevel(level)


def read(out: io.StringIO) -> list[dict[str, Any]]:
    request_log.flush()
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_one_json_object(out: io.StringIO) -> None:
    logging.get_logger("inference").info("model ready", model='cat "1"\n', seconds=1.5)
    (line,) = read(out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "model ready",
        "room": "inference",
        "level": "info",
        "model": 'cat "1"\n',
        "seconds": 1.5,
    }


def test_lines_below_the_level_are_not_written(out: io.StringIO) -> None:
    logging.configure("warning", stream=out)
    log = logging.get_logger("rpc")
    log.info("quiet")
    log.warning("loud")
    RequestLog("a.B", "C").write("OK", 0.1, Correlation("r"))
    assert [line["event"] for line in read(out)] == ["loud"]


def test_ids_of_the_call_are_on_every_line(out: io.StringIO) -> None:
    set_correlation(Correlation("r-1", f"00-{TRACE}-{SPAN}-01"))
    logging.get_logger("rpc").info("x")
    (line,) = read(out)
    assert (line["request_id"], line["trace_id"], line["span_id"]) == ("r-1", TRACE, SPAN)


def test_a_stack_stays_on_its_line(out: io.StringIO) -> None:
    error = ValueError("no")
    logging.get_logger("rpc").error("failed", exc_info=error)
    (line,) = read(out)
    assert "ValueError: no" in line["exception"]


def test_foreign_warnings_come_out_the_same_way(out: io.StringIO) -> None:
    standard.getLogger("uvicorn").warning("odd %s", "thing")
    standard.getLogger("uvicorn").info("chatter")
    (line,) = read(out)
    assert (line["event"], line["room"], line["level"]) == ("odd thing", "uvicorn", "warning")


def test_grpcio_tells_nothing_of_clients_that_left(out: io.StringIO) -> None:
    logger = standard.getLogger("grpc._cython.cygrpc")
    for error in (ExecuteBatchError("execute_batch"), ValueError("odd")):
        try:
            raise error
        except (ExecuteBatchError, ValueError):
            logger.exception("raised in core")
    (line,) = read(out)
    assert "ValueError: odd" in line["exception"]


def test_the_line_of_a_call_is_like_any_other(out: io.StringIO) -> None:
    correlation = Correlation("r-1", f"00-{TRACE}-{SPAN}-01")
    set_correlation(correlation)
    RequestLog("a.B", "C").write("NOT_FOUND", 0.0123456, correlation)
    values = {"service": "a.B", "method": "C", "code": "NOT_FOUND", "duration_s": 0.012346}
    request_log.flush()
    logging.get_logger("rpc").info("call", **values)
    ours, general = read(out)
    for line in (ours, general):
        assert line.pop("timestamp").endswith("Z")
    assert ours == general


async def test_lines_of_calls_are_written_soon(out: io.StringIO) -> None:
    import asyncio

    written = asyncio.Event()

    class Stream(io.StringIO):
        def flush(self) -> None:
            written.set()

    stream = Stream()
    logging.configure("info", stream=stream)
    written.clear()
    for at in range(3):
        RequestLog("a.B", "C").write("OK", 0.1, Correlation(f"r-{at}"))
    assert stream.getvalue() == ""
    async with asyncio.timeout(5):
        await written.wait()
    assert [json.loads(line)["request_id"] for line in stream.getvalue().splitlines()] == [
        "r-0",
        "r-1",
        "r-2",
    ]


def test_text_is_for_people(out: io.StringIO) -> None:
    logging.configure("info", json=False, stream=out)
    RequestLog("a.B", "C").write("OK", 0.1, Correlation("r-1"))
    logging.get_logger("rpc").info("listening")
    lines = out.getvalue().splitlines()
    assert "call" in lines[0]
    assert "code=OK" in lines[0]
    assert "listening" in lines[1]


def test_good_and_quick_calls_have_so_many_lines_a_second(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.configure(stream=out, calls_per_s=2)
    now_s = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now_s[0])
    log = RequestLog("a.B", "C")
    for at in range(5):
        log.write("OK", 0.1, Correlation(f"quick-{at}"))
    log.write("OK", 1.5, Correlation("slow"))
    log.write("OK", 0.1, Correlation("quick-5"))
    log.write("INTERNAL", 0.1, Correlation("failed"))
    now_s[0] += 1
    log.write("OK", 0.1, Correlation("next"))
    assert [(line["request_id"], line.get("skipped")) for line in read(out)] == [
        ("quick-0", None),
        ("quick-1", None),
        ("slow", 3),
        ("failed", 1),
        ("next", None),
    ]


class _FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_no_reason_to_end(out: io.StringIO) -> None:
    logging.configure("info", stream=_FullDisk())
    logging.get_logger("room").error("lost")
    standard.getLogger("foreign").error("lost")
    RequestLog("a.v1.Service", "Say").write("OK", 0.1, Correlation("r-1"))
    request_log.flush()
    logging.configure("info", stream=out)
    logging.get_logger("room").info("found")
    assert [line["event"] for line in read(out)] == ["found"]
