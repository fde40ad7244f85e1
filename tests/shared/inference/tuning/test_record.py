"""Tuned settings in the state folder: found again by what they were measured with."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.inference.machine import describe_cpu, describe_runtime
from shared.inference.tuning.record import TunedFolder
from shared.inference.tuning.values import Candidate, Figures, Tuned, TunedValues

CPU = "CPUExecutionProvider"
DIGEST = "sha256:1"


def make(model: str = "nlp/minilm", measured_at: str = "2026-01-01T00:00:00+00:00") -> Tuned:
    candidate = Candidate(
        values=TunedValues(max_batch_size=4, target_batch_s=0.05, intra_op_threads=2, instances=3),
        figures=Figures(items_per_s=1, latency_s=0.01, alone_s=0.01, cpu_s_per_item=0.01, rows=4),
    )
    return Tuned(
        model=model,
        version="1",
        digest=DIGEST,
        runtime=describe_runtime(),
        provider=CPU,
        cpu=describe_cpu(),
        cores=2,
        measured_at=measured_at,
        latency_target_s=0.05,
        best=candidate,
        candidates=(candidate,),
    )


def test_what_was_kept_is_found_and_replaced_by_what_is_kept_later(tmp_path: Path) -> None:
    folder = TunedFolder(tmp_path)
    assert folder.find("minilm", DIGEST, CPU) is None
    first = folder.keep(make())
    assert folder.find("minilm", DIGEST, CPU) == make()
    later = make(measured_at="2026-02-01T00:00:00+00:00")
    assert folder.keep(later) == first
    assert folder.list_all("minilm") == [later]
    assert [path.name for path in first.parent.iterdir()] == [first.name]


@pytest.mark.parametrize("changed", ["runtime", "cpu"])
def test_another_runtime_or_cpu_finds_nothing_but_still_lists_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    folder = TunedFolder(tmp_path)
    folder.keep(make())
    monkeypatch.setattr(f"shared.inference.tuning.record.describe_{changed}", lambda: "another")
    assert folder.find("minilm", DIGEST, CPU) is None
    assert folder.list_all("minilm") == [make()]


def test_models_whose_names_begin_alike_are_kept_apart(tmp_path: Path) -> None:
    folder = TunedFolder(tmp_path)
    folder.keep(make("nlp/minilm"))
    folder.keep(make("nlp/minilm-large"))
    assert [tuned.model for tuned in folder.list_all("minilm")] == ["nlp/minilm"]
    assert folder.forget("minilm") == 1
    assert folder.forget("minilm") == 0
    assert [tuned.model for tuned in folder.list_all("minilm-large")] == ["nlp/minilm-large"]
