"""The bound on clips in work."""

import asyncio

import pytest

from services.speech.admission import ClipAdmission
from shared.rpc.report import Report, set_report
from tests.support.waiting import within


async def test_one_more_than_allowed_waits_for_a_place_and_its_wait_is_reported():
    admission = ClipAdmission(1)
    report = Report()
    came, began = asyncio.Event(), asyncio.Event()

    async def second() -> None:
        set_report(report)
        came.set()
        async with admission.admit():
            began.set()

    async with admission.admit():
        task = asyncio.create_task(second())
        await within(came.wait())
        assert not began.is_set()
    await within(task)
    assert began.is_set()
    assert report.queue_s > 0


async def test_a_place_comes_back_after_a_failure_and_after_a_wait_that_was_given_up():
    admission = ClipAdmission(1)
    with pytest.raises(KeyError):
        async with admission.admit():
            raise KeyError
    async with admission.admit():
        waiting = asyncio.create_task(admission.admit().__aenter__())
        with pytest.raises(TimeoutError):
            await within(waiting, 0.01)
    async with asyncio.timeout(1), admission.admit():
        pass
