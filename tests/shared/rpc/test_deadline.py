"""Deadlines as values; how a call gets its own is in test_call."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import DeadlineExceeded, InvalidArgument
from shared.rpc.deadline import (
    NEVER,
    Deadline,
    begin_message,
    current_deadline,
    set_deadline,
    set_message_timeout,
)
from shared.rpc.settings import RpcSettings

SETTINGS = RpcSettings(default_timeout_s=30, max_timeout_s=300)
# What the native front says where there is no deadline.
HUGE_S = 9.223372036854776e18


def test_time_runs_out() -> None:
    assert Deadline.after(60).remaining_s() == pytest.approx(60, abs=1)
    assert not Deadline.after(60).expired
    assert Deadline.after(-1).expired
    Deadline.after(60).check("waiting")
    with pytest.raises(DeadlineExceeded, match="the deadline passed while waiting for a batch slot"):
        Deadline.after(-1).check("waiting for a batch slot")


def test_outside_of_a_call_there_is_none() -> None:
    with pytest.raises(LookupError, match=r"Deadline\.after"):
        current_deadline()


@pytest.mark.parametrize("remaining_s", [None, HUGE_S, float("inf")])
def test_without_one_the_default_counts(remaining_s: float | None) -> None:
    assert Deadline.from_parts(remaining_s, "", SETTINGS, time.monotonic()).remaining_s() == pytest.approx(
        30, abs=1
    )


def test_the_default_is_capped_too() -> None:
    short = RpcSettings(default_timeout_s=30, max_timeout_s=10)
    assert Deadline.from_parts(None, "", short, time.monotonic()).remaining_s() == pytest.approx(10, abs=1)


@given(
    remaining_s=st.one_of(st.none(), st.just(HUGE_S), st.floats(0, 1e5)),
    stamped_s=st.one_of(st.none(), st.floats(-100, 1e5)),
)
def test_never_later_than_any_bound(remaining_s: float | None, stamped_s: float | None) -> None:
    stamp = "" if stamped_s is None else str(int((time.time() + stamped_s) * 1000))
    left_s = Deadline.from_parts(remaining_s, stamp, SETTINGS, time.monotonic()).remaining_s()
    bounds = [SETTINGS.max_timeout_s]
    if remaining_s is not None and remaining_s != HUGE_S:
        bounds.append(remaining_s)
    if stamped_s is not None:
        bounds.append(stamped_s)
    if len(bounds) == 1:
        bounds.append(SETTINGS.default_timeout_s)
    assert left_s == pytest.approx(min(bounds), abs=0.5)


@given(stamp=st.text(min_size=1).filter(lambda text: not (text.isascii() and text.isdigit())))
def test_a_stamp_that_is_no_number_is_the_callers_error(stamp: str) -> None:
    with pytest.raises(InvalidArgument, match="milliseconds since the Unix epoch"):
        Deadline.from_parts(None, stamp, SETTINGS, time.monotonic())


def test_a_stream_lasts_as_long_as_was_said() -> None:
    now_s = time.monotonic()
    assert Deadline.of_stream(None, "", now_s) is NEVER
    assert Deadline.of_stream(1e12, "", now_s) is NEVER
    assert Deadline.of_stream(7200.0, "", now_s).at_s == now_s + 7200
    stamp = str(int((time.time() + 3600) * 1000))
    assert abs(Deadline.of_stream(7200.0, stamp, now_s).at_s - now_s - 3600) < 1


async def test_a_message_s_deadline_is_the_earlier_one() -> None:
    async def begin(stream: Deadline, timeout_s: float | None) -> Deadline:
        set_deadline(stream)
        if timeout_s is not None:
            set_message_timeout(timeout_s)
        found = begin_message()
        assert current_deadline() is found
        return found

    soon, late = Deadline.after(5), Deadline.after(5000)
    assert await asyncio.create_task(begin(soon, None)) is soon
    assert await asyncio.create_task(begin(soon, 30)) is soon
    assert (await asyncio.create_task(begin(late, 30))).remaining_s() < 31
    assert (await asyncio.create_task(begin(NEVER, 30))).remaining_s() < 31
