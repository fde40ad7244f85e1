"""Training, the shipped files and distillation in a short form: real snippets, few of them."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import onnxruntime
import pytest

from services.nlp.models import sentiment
from services.nlp.training import distill_sentiment, export_sentiment
from services.nlp.training.data.snippets import FILES, FOLDER
from services.nlp.training.train_sentiment import RUNGS, run_once
from shared.inference.artifact import read_artifact, verify
from shared.training.errors import DataError

LIMIT = 40


@pytest.mark.parametrize("rung", [name for name in RUNGS if name != "minilm"])
def test_a_rung_trains_judges_every_domain_and_gives_the_same_again(
    rung: str, datasets: Path, tmp_path: Path
) -> None:
    first, again = (
        run_once(1, datasets, tmp_path / name, model=rung, limit=LIMIT, epochs=2)
        for name in ("first", "again")
    )
    assert set(first["accuracy"]) == {*FILES, "validation"}
    assert all(len(answers["labels"]) == LIMIT for answers in first["answers"].values())
    assert first["answers"] == again["answers"]
    curve = (tmp_path / "first/curves.csv").read_text().splitlines()
    assert len(curve) == 3


def test_another_seed_holds_out_other_snippets(datasets: Path, tmp_path: Path) -> None:
    names = [
        set(
            run_once(seed, datasets, tmp_path / str(seed), model="bag", limit=LIMIT, epochs=1)["answers"][
                "movie"
            ]["names"]
        )
        for seed in (1, 2)
    ]
    assert names[0] != names[1]


def test_a_missing_data_set_is_told_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sensorium data pull vader"):
        run_once(0, tmp_path, tmp_path / "out", model="bag")


def test_missing_minilm_is_told(datasets: Path, tmp_path: Path) -> None:
    (tmp_path / FOLDER.parent).mkdir(parents=True)
    (tmp_path / FOLDER).symlink_to(datasets / FOLDER)
    with pytest.raises(DataError, match="sensorium data pull minilm"):
        run_once(0, tmp_path, tmp_path / "out", limit=LIMIT)


def test_the_script_ends_with_one_line_when_data_are_bad(
    run_script: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    path = tmp_path / FOLDER / FILES["movie"]
    path.parent.mkdir(parents=True)
    path.write_text("1\t2.0\tgood\n")
    ended = run_script(
        "services.nlp.training.train_sentiment",
        "--model",
        "bag",
        "--data",
        tmp_path,
        "--out",
        tmp_path / "out",
    )
    assert ended.returncode == 1
    assert "one label" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture(scope="module")
def trained(datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model's training in a short form, its files made."""
    patch = pytest.MonkeyPatch()
    out = tmp_path_factory.mktemp("sentiment")
    # Held-out items go to the state folder, and the one of this machine is not for tests.
    patch.setenv("SENSORIUM_STATE_DIR", str(tmp_path_factory.mktemp("state")))
    said = [
        "--data",
        str(datasets),
        "--out",
        str(out),
        "--limit",
        str(LIMIT),
        "--epochs",
        "1",
        "--tuned",
        "2",
    ]
    try:
        export_sentiment.main(export_sentiment.get_args_parser().parse_args(said))
    finally:
        patch.undo()
    return out


def test_the_recipe_makes_the_artifact_that_training_left(trained: Path, datasets: Path) -> None:
    artifact = read_artifact(trained / "artifact/sentiment/1")
    verify(artifact)
    assert artifact.constants["labels"] == ["negative", "positive"]
    assert artifact.manifest.quality.parity is not None
    assert artifact.manifest.quality.parity.largest < 1e-4
    assert artifact.manifest.made.command.startswith("python -m services.nlp.training.export_sentiment")
    members = {
        member: (datasets / "minilm" / member).read_bytes()
        for member in (sentiment.WEIGHTS_MEMBER, sentiment.TOKENIZER_MEMBER)
    }
    draft = sentiment.build_from(members, trained / "recipe")
    assert draft.graphs["model"].content == artifact.graph_file("model").read_bytes()
    files = [path.stat().st_size for path in (trained / "recipe").iterdir()]
    assert sum(files) < 1_500_000


def test_the_graph_gives_pytorchs_golden_answers(trained: Path) -> None:
    artifact = read_artifact(trained / "artifact/sentiment/1")
    golden = artifact.read_golden()
    session = onnxruntime.InferenceSession(artifact.graph_file("model"), providers=["CPUExecutionProvider"])
    inputs = {name: golden[f"model/in/{name}"] for name in ("input_ids", "attention_mask")}
    # The same rounded weights: what is left is the order of sums.
    np.testing.assert_allclose(
        session.run(["logits"], inputs)[0], golden["model/out/logits"], atol=1e-4, rtol=1e-4
    )


def test_the_card_says_where_it_is_worse(trained: Path) -> None:
    card = (trained / "artifact/sentiment/1/card.md").read_text()
    for said in (
        "By length",
        "Fairness",
        "majority",
        "TF-IDF",
        "nearest neighbour",
        "Calibration",
        "within ±0.5",
        "chosen",
    ):
        assert said in card, said


def test_a_student_learns_from_the_teachers_scores(trained: Path, datasets: Path, tmp_path: Path) -> None:
    said = ["--data", str(datasets), "--out", str(tmp_path), "--teacher", str(trained), "--limit", str(LIMIT)]
    arguments = distill_sentiment.get_args_parser().parse_args(
        [*said, "--epochs", "1", "--vocabulary", "500"]
    )
    results = distill_sentiment.main(arguments)
    teachers = json.loads((trained / "results.json").read_text())
    assert results["answers"]["movie"]["names"] == teachers["answers"]["movie"]["names"]
    graph = (tmp_path / distill_sentiment.SMALL_GRAPH).read_bytes()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    ids = np.array([[2, 10, 11, 3]], np.int64)
    assert session.run(["logits"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0].shape == (1, 2)
