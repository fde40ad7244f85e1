"""The load report, read back by protobuf, and the rates in it."""

from __future__ import annotations

import asyncio
import base64
import shutil
import struct
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.wrappers_pb2 import BytesValue

from shared.errors import InvalidArgument
from shared.rpc.gate import Gate
from shared.rpc.load import LOAD_TRAILER, Backlog, LoadMeter, encode_report
from shared.telemetry.metrics import CallMetrics
from tests.support.serving import serving
from tests.support.stub import SERVICE, echo, stub
from tests.support.waiting import within

FIELDS = {
    "cpu_utilization": 1,
    "mem_utilization": 2,
    "rps_fractional": 6,
    "eps": 7,
    "application_utilization": 9,
}


def read(payload: bytes) -> Any:
    """An OrcaLoadReport, by its public definition."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="orca.proto", package="xds.data.orca.v3", syntax="proto3")
    report = file.message_type.add(name="OrcaLoadReport")
    for name, number in FIELDS.items():
        report.field.add(name=name, number=number, type=kinds.TYPE_DOUBLE, label=kinds.LABEL_OPTIONAL)
    entry = report.nested_type.add(name="NamedMetricsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=kinds.TYPE_DOUBLE, label=kinds.LABEL_OPTIONAL)
    report.field.add(
        name="named_metrics",
        number=8,
        type=kinds.TYPE_MESSAGE,
        label=kinds.LABEL_REPEATED,
        type_name=".xds.data.orca.v3.OrcaLoadReport.NamedMetricsEntry",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # type: ignore[no-untyped-call]
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("xds.data.orca.v3.OrcaLoadReport"))
    return message.FromString(payload)


class Office:
    """A workload of two cores."""

    cores = 2

    def __init__(self) -> None:
        self.waiting = Backlog()

    def backlog(self) -> Backlog:
        return self.waiting


def test_a_report_is_what_the_protocol_says() -> None:
    payload = encode_report(
        cpu_utilization=0.25, application_utilization=1.5, rps=120.5, eps=0.0, named={"queue_size": 7.0}
    )
    report = read(payload)
    assert (report.cpu_utilization, report.application_utilization) == (0.25, 1.5)
    assert (report.rps_fractional, report.eps) == (120.5, 0.0)
    assert dict(report.named_metrics) == {"queue_size": 7.0}
    assert report.SerializeToString(deterministic=True) == payload


def test_rates_are_those_of_the_last_second() -> None:
    metrics, cpu = CallMetrics(), [0.0]
    counts, office = metrics.bind("a.B", "C"), Office()
    meter = LoadMeter(metrics, Gate("b"), office, now_s=100.0, cpu_clock=lambda: cpu[0])
    for tenth in range(1, 31):
        for _ in range(4 if tenth > 10 else 1):
            counts.finish("OK", 0.001)
        counts.finish("INTERNAL", 0.001)
        counts.finish("INVALID_ARGUMENT", 0.001)
        cpu[0] += 0.05
        _, payload = meter.trailer(100.0 + tenth / 10)
    report = read(payload)
    assert report.cpu_utilization == pytest.approx(0.25)
    assert report.rps_fractional == pytest.approx(60)
    assert report.eps == pytest.approx(10)
    office.waiting = Backlog(items=12, seconds=0.5)
    report = read(meter.trailer(103.1)[1])
    assert report.named_metrics["queue_size"] == 12
    assert report.application_utilization == pytest.approx(report.cpu_utilization + 0.5)


def test_a_report_is_made_ten_times_a_second_at_most() -> None:
    meter = LoadMeter(CallMetrics(), Gate("b"), now_s=100.0)
    first = meter.trailer(100.2)
    assert meter.trailer(100.29) is first
    assert meter.trailer(100.31) is not first


def test_an_idle_time_is_not_counted_as_load() -> None:
    metrics, cpu = CallMetrics(), [0.0]
    counts = metrics.bind("a.B", "C")
    meter = LoadMeter(metrics, Gate("b"), now_s=100.0, cpu_clock=lambda: cpu[0])
    for tenth in range(1, 11):
        counts.finish("OK", 0.001)
        cpu[0] += 0.1
        meter.trailer(100.0 + tenth / 10)
    assert read(meter.trailer(160.0)[1]).cpu_utilization < 0.05


async def ask(address: str, method: str, body: bytes) -> dict[str, str]:
    """Headers and trailers of a call's reply by a plain HTTP/2 client: gRPC's own keeps the load report to itself."""
    process = await asyncio.create_subprocess_exec(
        "curl",
        *("--silent", "--http2-prior-knowledge", "--dump-header", "-", "--output", "/dev/null"),
        *("--header", "content-type: application/grpc", "--header", "te: trailers"),
        *("--data-binary", "@-", f"http://{address}/{SERVICE}/{method}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await within(process.communicate(struct.pack(">BI", 0, len(body)) + body))
    lines = [line.partition(": ") for line in said.decode().splitlines()]
    return {key: value for key, _, value in lines if value}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing")
async def test_every_reply_brings_one(front: str) -> None:
    async def refuse(request: BytesValue, context: Any) -> BytesValue:
        raise InvalidArgument("value", expected="1 byte", got="none")

    async with serving(stub(Echo=echo, Refuse=refuse), front=front) as up:
        for method, status in (("Echo", "0"), ("Refuse", "3")):
            trailers = await ask(up.address, method, b"")
            assert trailers["grpc-status"] == status
            value = trailers[LOAD_TRAILER]
            report = read(base64.b64decode(value + "=" * (-len(value) % 4)))
            assert report.named_metrics["in_flight"] == 1
