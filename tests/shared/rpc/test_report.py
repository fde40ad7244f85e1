"""What a call's report adds up."""

from __future__ import annotations

import time

import pytest

from shared.rpc.report import Report


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the report's clock, in its one element."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_call_that_ran_no_model_says_nothing() -> None:
    assert Report().to_trailers() == ()


def test_runs_one_after_another_add_up(clock: list[float]) -> None:
    report = Report()
    report.add(0.5, 0.1, 1.0, 4, "speech/moonshine", "1")
    clock[0] += 3.0
    report.add(0.25, 0.05, 2.0, 2, "speech/moonshine", "1")
    assert dict(report.to_trailers()) == {
        "x-sensorium-queue": "0.750000",
        "x-sensorium-batch": "0.150000",
        "x-sensorium-compute": "3.000000",
        "x-sensorium-batch-size": "4",
        "x-sensorium-model-version": "speech/moonshine@1",
    }


def test_runs_side_by_side_count_once(clock: list[float]) -> None:
    report = Report()
    # Two of one batch, and a third that waited for it and ran for the last second.
    report.add(0.5, 0.0, 2.0, 2, "vision/cat", "7")
    report.add(0.5, 0.0, 2.0, 2, "vision/cat", "7")
    clock[0] += 1.0
    report.add(2.5, 0.0, 1.0, 1, "vision/face", "1")
    assert (report.queue_s, report.compute_s, report.batch_size) == (0.5, 3.0, 2)
    assert report.models == ("vision/cat@7", "vision/face@1")


def test_a_run_that_never_came_to_be_tells_its_wait() -> None:
    report = Report()
    report.add(0.5, 0.0, 0.0, 0, "vision/cat", "7")
    assert dict(report.to_trailers())["x-sensorium-queue"] == "0.500000"
    assert dict(report.to_trailers())["x-sensorium-batch-size"] == "0"
