"""Numbers of versions, gates that several agree on, and the record when a crash has cut it off."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cli.registry.comparison import Answers, Comparison, gather_bounds
from cli.registry.history import ABANDONED, BEGUN, PROMOTED, History
from cli.registry.versions import next_version
from shared.inference.artifact import Artifact, read_artifact, write_artifact
from shared.inference.heldout import HeldOutSet, Item
from tests.shared.inference.graphs import draft_of, entry_of, linear


@pytest.mark.parametrize(
    ("versions", "catalogued", "following"),
    [
        ([], None, "1"),
        (["1"], None, "2"),
        (["1", "9", "10"], None, "11"),
        (["2026.11"], None, "2026.12"),
        (["beta"], None, "beta.1"),
        (["v3-rc"], None, "v4"),
        # Below the catalogue's next one, which a pull would put in its place.
        (["1"], "1", "1.1"),
        ([], "1", "1.1"),
        (["1", "1.1", "1.9"], "1", "1.10"),
        (["1", "1.1", "2"], "2", "2.1"),
        (["1", "1.3"], "2", "2.1"),
        (["1", "5"], "1", "6"),
    ],
)
def test_the_next_version(versions: list[str], catalogued: str | None, following: str) -> None:
    assert next_version(versions, catalogued) == following


def make(folder: Path, gates: dict[str, object]) -> Artifact:
    made = write_artifact(folder, entry_of("line"), draft_of(linear()))
    metrics = {name: {"value": 0.9, "low": 0.8, "high": 1.0} for name in gates}
    path = made.folder / "artifact.json"
    quality = {"metrics": metrics, "gates": gates}
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "quality": quality}))
    return read_artifact(made.folder)


def test_all_that_anybody_has_agreed_on_must_hold(tmp_path: Path) -> None:
    candidate = make(tmp_path / "a", {"accuracy": {"min": 0.5}})
    serving = make(tmp_path / "b", {"accuracy": {"min": 0.8}, "ece": {"max": 0.1}})
    found = gather_bounds(candidate, serving, {"gates": {"accuracy": {"min": 0.7}, "ece": {"max": 0.1}}})
    assert {(bound.metric, bound.low, bound.high) for bound in found} == {
        ("accuracy", 0.5, None),
        ("accuracy", 0.7, None),
        ("accuracy", 0.8, None),
        ("ece", None, 0.1),
    }


@pytest.mark.parametrize(
    "gates", [7, {"accuracy": 7}, {"accuracy": {}}, {"accuracy": {"min": "x"}}, {"a": {"mni": 1}}]
)
def test_gates_of_a_catalogue_that_are_none(tmp_path: Path, gates: object) -> None:
    with pytest.raises(ValueError, match=r"gates: .*expected"):
        gather_bounds(make(tmp_path, {}), None, {"gates": gates})


def test_metrics_and_slices() -> None:
    items = tuple(Item(label, text="x", slice=part) for label, part in zip("aabbb", "12121", strict=True))
    held_out = HeldOutSet("set", "nlp", "ClassifyText", "", items)
    old, new = Answers("1", ("a", "a", "b", "", "a")), Answers("2", ("a", "b", "b", "b", "b"))
    # By hand: of `a` 2 are named and right of 3 named, 2 true; of `b` 1 of 1 named, 3 true.
    assert old.measure(held_out) == {
        "accuracy": 3 / 5,
        "macro_f1": pytest.approx((2 * 2 / 5 + 2 * 1 / 4) / 2),
        "unanswered": 1 / 5,
    }
    made = Comparison(held_out, old, new)
    assert (made.paired.both, made.paired.only_old, made.paired.only_new, made.paired.neither) == (2, 1, 2, 0)
    assert {part: paired.items for part, paired in made.by_slice()} == {"1": 3, "2": 2}


def test_items_are_drawn_again_with_both_their_answers() -> None:
    """The interval holds the difference, narrows with the items, and is nothing where the answers are the same."""
    rng = np.random.default_rng(2)

    def compare(items: int) -> Comparison:
        truth = rng.choice(list("abc"), items).tolist()
        held_out = HeldOutSet("set", "nlp", "ClassifyText", "", tuple(Item(one, text="x") for one in truth))
        old = tuple(one if rng.random() < 0.8 else "a" for one in truth)
        new = tuple(one if rng.random() < 0.9 else "?" for one in truth)
        return Comparison(held_out, Answers("1", old), Answers("2", new))

    widths = []
    for items in (100, 1600):
        made = compare(items)
        measured = [answers.measure(made.held_out)["macro_f1"] for answers in (made.old, made.new)]
        low, high = made.bootstrap_f1()
        assert low < measured[1] - measured[0] < high
        widths.append(high - low)
        same = Comparison(made.held_out, made.old, made.old)
        assert same.bootstrap_f1() == (0.0, 0.0)
    # Sixteen times the items: about a quarter of the width.
    assert 2.5 < widths[0] / widths[1] < 6.5


def test_a_record_that_was_cut_off_is_ended_by_what_is_on_disk(tmp_path: Path) -> None:
    made = write_artifact(tmp_path / "models", entry_of("line", "2"), draft_of(linear()))
    history = History(tmp_path, "test", "line")
    assert history.read() == []
    history.add(BEGUN, {"id": "a", "version": "2", "digest": made.digest})
    history.add(BEGUN, {"id": "b", "version": "3", "digest": "sha256:none"})
    history.add(BEGUN, {"id": "c", "version": "2", "digest": "sha256:other"})
    history.add(BEGUN, {"id": "d", "version": "1", "digest": "x"})
    history.add(PROMOTED, {"id": "d", "version": "1", "digest": "x"})
    with history.path.open("ab") as file:
        file.write(b'{"event": "begun", "id": "e", "ver')
    history.settle(made.folder.parent)
    ended = {record["id"]: record["event"] for record in history.read() if record["event"] != BEGUN}
    assert ended == {"a": PROMOTED, "b": ABANDONED, "c": ABANDONED, "d": PROMOTED}
    before = history.path.read_bytes()
    history.settle(made.folder.parent)
    assert history.path.read_bytes() == before
