"""What counts against a model, for all replicas of its service."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from shared.inference.isolation.record import Record, Suspect, describe_quarantine
from tests.shared.inference.isolation.aging import age

DAY_S = 86_400.0
CAT = Suspect("cat", "1", "sha256:cat")
DOG = Suspect("dog", "1", "sha256:dog")


def add_many(folder: Path, who: int) -> None:
    record = Record(folder, blame_s=DAY_S)
    for number in range(20):
        record.add([CAT], kind="crash", cause=f"{who}-{number}", reason="it crashed", weight=0.01)


def is_quarantined(record: Record, suspect: Suspect) -> bool:
    blamed = record.find(suspect.digest)
    return blamed is not None and blamed.quarantined


def test_a_model_that_was_blamed_twice_is_quarantined_and_no_other(tmp_path: Path) -> None:
    record = Record(tmp_path, blame_s=DAY_S)
    record.add([CAT], kind="crash", cause="a", reason="it crashed")
    record.add([DOG], kind="crash", cause="b", reason="it crashed")
    assert not is_quarantined(record, CAT)
    record.add([CAT], kind="crash", cause="c", reason="it crashed")
    assert is_quarantined(record, CAT)
    assert not is_quarantined(record, DOG)
    assert record.find("sha256:new version of cat") is None


def test_one_event_counts_once(tmp_path: Path) -> None:
    record = Record(tmp_path, blame_s=DAY_S)
    for _ in range(3):
        record.add([CAT], kind="crash", cause="a", reason="it crashed")
    assert not is_quarantined(record, CAT)


def test_suspects_share_the_blame(tmp_path: Path) -> None:
    record = Record(tmp_path, blame_s=DAY_S)
    for number in range(3):
        record.add([CAT, DOG], kind="crash", cause=str(number), reason="its replica crashed")
    assert not is_quarantined(record, CAT)
    record.add([CAT], kind="crash", cause="alone", reason="it crashed")
    assert is_quarantined(record, CAT)
    assert not is_quarantined(record, DOG)


def test_three_suspects_are_quarantined_after_six_crashes(tmp_path: Path) -> None:
    record = Record(tmp_path, blame_s=DAY_S)
    bird = Suspect("bird", "1", "sha256:bird")
    for number in range(6):
        assert not is_quarantined(record, CAT)
        record.add([CAT, DOG, bird], kind="crash", cause=str(number), reason="its replica crashed")
    assert is_quarantined(record, CAT)


def test_blame_ages_out_and_so_does_quarantine(tmp_path: Path) -> None:
    record = Record(tmp_path, blame_s=DAY_S)
    record.add([CAT], kind="crash", cause="a", reason="it crashed")
    age(tmp_path, DAY_S / 2)
    record.add([CAT], kind="crash", cause="b", reason="it crashed")
    blamed = record.find(CAT.digest)
    assert blamed is not None
    assert blamed.quarantined
    # It ends when the first of the two no longer counts.
    assert abs(blamed.until - (time.time() + DAY_S / 2)) < 60
    age(tmp_path, DAY_S / 2 + 1)
    blamed = record.find(CAT.digest)
    assert blamed is not None
    assert (len(blamed.blames), blamed.quarantined) == (1, False)
    age(tmp_path, DAY_S)
    assert record.find(CAT.digest) is None
    assert record.list_blamed() == []


def test_another_replica_sees_what_one_wrote_at_once(tmp_path: Path) -> None:
    one, other = Record(tmp_path, blame_s=DAY_S), Record(tmp_path, blame_s=DAY_S)
    one.add([CAT], kind="crash", cause="a", reason="it crashed")
    assert other.find(CAT.digest) is not None
    other.add([CAT], kind="crash", cause="b", reason="it crashed")
    assert is_quarantined(one, CAT)
    assert [blamed.suspect for blamed in other.release("cat")] == [CAT]
    assert one.find(CAT.digest) is None
    assert other.release("cat") == []


def test_replicas_that_write_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=add_many, args=(tmp_path, who)) for who in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    blamed = Record(tmp_path, blame_s=DAY_S).find(CAT.digest)
    assert blamed is not None
    assert len({blame.cause for blame in blamed.blames}) == 60


@pytest.mark.parametrize(
    "content",
    ['{"models": {"sha256:cat": 3}}', '{"models": []}', "[" * 100_000, "", '{"models": {"sha256:cat"'],
)
def test_a_damaged_file_blames_nobody_and_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "blame.json").write_text(content)
    record = Record(tmp_path, blame_s=DAY_S)
    assert record.find(CAT.digest) is None
    record.add([CAT], kind="crash", cause="a", reason="it crashed")
    assert record.find(CAT.digest) is not None


def test_the_reason_says_what_releases_it(tmp_path: Path) -> None:
    record = Record(tmp_path, blame_s=DAY_S)
    record.add([CAT], kind="crash", cause="a", reason="it crashed its replica")
    record.add([CAT], kind="crash", cause="b", reason="a run of it hung")
    blamed = record.find(CAT.digest)
    assert blamed is not None
    text = describe_quarantine("vision", blamed)
    assert "blamed 2 times" in text
    assert "a run of it hung" in text
    assert "`sensorium models release vision/cat`" in text
    assert "a new version" in text
