"""What follows a hang: with real graphs that loop for ever, one of which does not even hear that it shall end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from shared.errors import FailedPrecondition, RestartError
from shared.inference.artifact import GraphDraft
from shared.inference.isolation.isolation import Isolation
from shared.inference.isolation.loading import run_loading
from shared.inference.isolation.record import Record, Suspect
from shared.inference.isolation.settings import IsolationSettings
from shared.inference.session.session import RunError, RunOptions, Session
from tests.shared.inference.graphs import slow
from tests.shared.inference.isolation.aging import age
from tests.shared.inference.isolation.graphs import deaf
from tests.support.waiting import within

DAY_S = 86_400.0
FOR_EVER = 2**40
DIGEST = "sha256:1"


@dataclass
class Models:
    """What isolation asks of a repository, as it is asked."""

    taken_out: asyncio.Queue[tuple[str, str, str]] = field(default_factory=asyncio.Queue)
    loaded: asyncio.Queue[tuple[str, str]] = field(default_factory=asyncio.Queue)

    def take_out(self, name: str, version: str, reason: str) -> None:
        self.taken_out.put_nowait((name, version, reason))

    async def load_model(self, name: str, version: str = "") -> None:
        self.loaded.put_nowait((name, version))


@dataclass
class Kept:
    """An isolation at work, and what it asked for."""

    isolation: Isolation
    models: Models
    task: asyncio.Task[None]


Keep = Callable[..., Kept]


@pytest.fixture
async def keep(tmp_path: Path) -> AsyncIterator[Keep]:
    """Makes an isolation that is kept: `keep(run_timeout_s=0.2, …)`."""
    made: list[Kept] = []

    def make(**settings: float) -> Kept:
        isolation = Isolation(
            tmp_path / "isolation",
            "test",
            IsolationSettings(**{"run_timeout_s": 0.2, "grace_s": 0.2, "restart_s": 3600.0, **settings}),
        )
        models = Models()
        made.append(Kept(isolation, models, asyncio.create_task(isolation.keep(models))))
        return made[-1]

    yield make
    for kept in made:
        kept.task.cancel()
        await within(asyncio.gather(kept.task, return_exceptions=True))
        kept.isolation.close()


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., asyncio.Future[object]]:
    """Runs a graph under a guard on a thread of its own; the future is its end."""

    def begin(
        isolation: Isolation, draft: GraphDraft, value: int, *, expected_s: float = 0.0
    ) -> asyncio.Future[object]:
        file = tmp_path / "model.onnx"
        file.write_bytes(draft.content)
        session = Session(file)
        guard = isolation.guard("model", "1", "model", DIGEST)
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[object] = loop.create_future()

        def run() -> None:
            options = RunOptions()
            guard.begin(options, expected_s)
            try:
                answer: object = session.run({"x": np.array([value])}, ["y"], options)
            except RunError as error:
                answer = error
            finally:
                guard.end()
                guard.close()
            loop.call_soon_threadsafe(ended.set_result, answer)

        threading.Thread(target=run, daemon=True).start()
        return ended

    return begin


Start = Callable[..., asyncio.Future[object]]


def read_blame(tmp_path: Path) -> list[tuple[float, str]]:
    blamed = Record(tmp_path / "isolation", blame_s=DAY_S).find(DIGEST)
    return [] if blamed is None else [(blame.share, blame.reason) for blame in blamed.blames]


async def test_a_hanging_run_is_stopped_its_model_taken_out_and_loaded_afresh(
    tmp_path: Path, keep: Keep, start: Start
) -> None:
    kept = keep(grace_s=30.0)
    ended = start(kept.isolation, slow(), FOR_EVER)
    name, version, reason = await within(kept.models.taken_out.get())
    assert (name, version) == ("model", "1")
    assert reason == "it hangs: a run took more than 0.2 s and was asked to stop"
    assert isinstance(await within(ended), RunError)
    assert await within(kept.models.loaded.get()) == ("model", "1")
    assert read_blame(tmp_path) == [(0.5, "a run of it hung and had to be stopped")]


async def test_a_model_that_let_go_four_times_is_quarantined_until_it_is_released(
    tmp_path: Path, keep: Keep, start: Start
) -> None:
    kept = keep(grace_s=30.0, run_timeout_s=0.05)
    for _ in range(4):
        assert kept.isolation.quarantined("model", "1", DIGEST) is None
        # One call that is tried again and again is one hang, for a minute.
        for _ in range(2):
            await within(start(kept.isolation, slow(), FOR_EVER))
            await within(kept.models.loaded.get())
        age(tmp_path / "isolation", 61.0)
    reason = kept.isolation.quarantined("model", "1", DIGEST)
    assert reason is not None
    assert "blamed 4 times" in reason
    assert kept.isolation.quarantined("model", "2", "sha256:2") is None
    # As the command does, from another process.
    Record(tmp_path / "isolation", blame_s=DAY_S).release("model")
    assert await within(kept.models.loaded.get()) == ("model", "1")
    assert kept.isolation.quarantined("model", "1", DIGEST) is None


async def test_a_model_that_is_quarantined_elsewhere_is_taken_out_here(tmp_path: Path, keep: Keep) -> None:
    kept = keep()
    guard = kept.isolation.guard("test/model", "1", "model", DIGEST)
    record = Record(tmp_path / "isolation", blame_s=DAY_S)
    for cause in ("a", "b"):
        record.add(
            [Suspect("model", "1", DIGEST)], kind="crash", cause=cause, reason="it crashed its replica"
        )
    name, version, reason = await within(kept.models.taken_out.get())
    assert (name, version) == ("model", "1")
    assert "quarantined" in reason
    record.release("model")
    assert await within(kept.models.loaded.get()) == ("model", "1")
    guard.close()


async def test_a_run_that_does_not_return_restarts_the_replica(
    tmp_path: Path, keep: Keep, start: Start
) -> None:
    kept = keep()
    # Some seconds in one node.
    ended = start(kept.isolation, deaf(), 350)
    await within(kept.models.taken_out.get())
    with pytest.raises(RestartError, match="test/model: a run of it hangs and does not stop"):
        await within(kept.task)
    assert not ended.done()
    assert kept.models.loaded.empty()
    assert read_blame(tmp_path) == [(1.0, "a run of it hung and did not stop")]
    await within(ended, 60)


async def test_a_run_of_a_size_that_takes_long_may_take_long(keep: Keep, start: Start) -> None:
    kept = keep()
    ended = start(kept.isolation, deaf(), 280, expected_s=10.0)
    assert not isinstance(await within(ended, 60), RunError)
    assert kept.models.taken_out.empty()


async def test_loading_that_hangs_restarts_the_replica(tmp_path: Path, keep: Keep) -> None:
    kept = keep(load_timeout_s=0.2)
    with (
        kept.isolation.loading("model", "1", DIGEST),
        pytest.raises(RestartError, match="test/model: loading it hangs"),
    ):
        await within(kept.task)
    # It serves nobody, so there is nothing to take out.
    assert kept.models.taken_out.empty()
    assert read_blame(tmp_path) == [(1.0, "loading it hung and did not stop")]


async def test_a_run_that_hangs_while_its_model_is_loaded_is_ended(tmp_path: Path, keep: Keep) -> None:
    kept = keep(grace_s=30.0)
    file = tmp_path / "model.onnx"
    file.write_bytes(slow().content)

    def load() -> None:
        with kept.isolation.loading("model", "1", DIGEST):
            run_loading(Session(file), {"x": np.array([FOR_EVER])}, ["y"])

    with pytest.raises(RunError, match="it hangs: a run took too long and was ended"):
        await within(asyncio.to_thread(load))
    # It is refused by whoever loads it: no more follows from it.
    assert kept.models.taken_out.empty()
    assert kept.models.loaded.empty()
    assert read_blame(tmp_path) == []


async def test_runs_in_time_are_nobodys_business(tmp_path: Path, keep: Keep, start: Start) -> None:
    kept = keep(run_timeout_s=30.0)
    with kept.isolation.loading("model", "1", DIGEST):
        for value in range(50):
            await within(start(kept.isolation, slow(), value))
    assert kept.models.taken_out.empty()
    assert read_blame(tmp_path) == []


async def test_a_call_that_another_replica_had_is_run_unless_that_one_crashed_over_it(
    tmp_path: Path, keep: Keep
) -> None:
    isolation = keep().isolation
    record = Record(tmp_path / "isolation", blame_s=DAY_S)
    await within(isolation.check_retried("model", DIGEST))
    record.add([Suspect("model", "1", DIGEST)], kind="hang", cause="a", reason="a run of it hung")
    await within(isolation.check_retried("model", DIGEST))
    record.add([Suspect("model", "1", DIGEST)], kind="crash", cause="b", reason="it crashed its replica")
    with pytest.raises(FailedPrecondition, match="it crashed its replica"):
        await within(isolation.check_retried("model", DIGEST))
    await within(isolation.check_retried("other", "sha256:2"))
    # The gateway sends a call on at once: what comes later is another one's fault.
    age(tmp_path / "isolation", 11.0)
    await within(isolation.check_retried("model", DIGEST))
    await within(Isolation.off().check_retried("model", DIGEST))


async def test_a_folder_that_cannot_be_written_costs_the_memory_and_not_the_watch(
    tmp_path: Path, keep: Keep, start: Start
) -> None:
    (tmp_path / "isolation").write_text("a file where the folder should be")
    kept = keep(grace_s=30.0)
    await within(start(kept.isolation, slow(), FOR_EVER))
    await within(kept.models.taken_out.get())
    assert kept.isolation.quarantined("model", "1", DIGEST) is None


async def test_off_blames_nobody_and_touches_no_file(tmp_path: Path, start: Start) -> None:
    isolation = Isolation.off()
    with isolation.loading("model", "1", DIGEST):
        assert not isinstance(await within(start(isolation, slow(), 3)), RunError)
    assert isolation.quarantined("model", "1", DIGEST) is None
    isolation.close()
    assert not (tmp_path / "isolation").exists()


async def test_what_an_earlier_process_did_counts(tmp_path: Path, keep: Keep) -> None:
    record = Record(tmp_path / "isolation", blame_s=DAY_S)
    for cause in ("a", "b"):
        record.add(
            [Suspect("model", "1", DIGEST)], kind="crash", cause=cause, reason="it crashed its replica"
        )
    assert keep().isolation.quarantined("model", "1", DIGEST) is not None
