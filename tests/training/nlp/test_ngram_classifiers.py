"""Classifiers over n-grams: features, network, and each recipe in its short form, to the artifact that is served."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from services.nlp.classifier import CLASSIFIERS
from services.nlp.pipeline.ngrams import NgramRule
from services.nlp.training import release_ngrams, train_language, train_topics
from services.nlp.training.compact import compact
from services.nlp.training.data.bags import join_bags, learn_reader, normalise, read_bags, weigh
from services.nlp.training.data.messages import Message
from services.nlp.training.learning import find_threshold, measure_loss
from services.nlp.training.model.ngrams import NgramClassifier
from shared.inference.artifact import read_artifact, verify
from shared.training.errors import CheckpointError
from shared.training.export import ExportError, to_onnx

RULE = NgramRule(word_orders=(1,))
TEXTS = ("red apple", "green apple", "red red car", "blue car", "green tree")
LABELS = np.array([0, 0, 1, 1, 0])


def test_the_ngrams_that_say_most_are_learned() -> None:
    reader, _ = learn_reader(TEXTS, LABELS, RULE, size=2, min_texts=2)
    known = {word for word in ("red", "apple", "car", "green") if reader.read(word).known}
    assert known == {"car", "green"} or known == {"car", "apple"}


def test_bags_are_cut_and_filled_as_they_were_read() -> None:
    reader, learned = learn_reader(TEXTS, LABELS, RULE, size=99, min_texts=1)
    assert learned.ids.tolist() == read_bags(TEXTS, reader).ids.tolist()
    bags = read_bags([*TEXTS, "", "unheard"], reader)
    assert bags.lengths.tolist() == [2, 2, 2, 2, 2, 0, 0]
    chosen = np.array([2, 5, 0])
    ids, counts = bags.take(chosen).fill()
    assert ids.shape == counts.shape == (3, 2)
    for row, index in enumerate(chosen):
        begin, end = bags.offsets[index : index + 2]
        assert ids[row][ids[row] > 0].tolist() == bags.ids[begin:end].tolist()
        assert counts[row][counts[row] > 0].tolist() == bags.counts[begin:end].tolist()
    assert counts[0].max() == 2  # red, twice


def test_an_ngram_of_one_label_weighs_more_than_one_of_all() -> None:
    bags = join_bags(
        [(np.array(row), np.ones(len(row), np.float32)) for row in ([1, 2], [1, 2], [1, 3], [1, 3])]
    )
    weights = weigh(bags, np.array([0, 0, 1, 1]), 3)
    assert weights[0] == 0
    assert weights[2] == pytest.approx(weights[3])
    assert weights[2] > 5 * weights[1]


@pytest.mark.parametrize("hidden", [0, 4])
def test_both_forms_of_the_network_give_one_answer(hidden: int) -> None:
    reader, _ = learn_reader(TEXTS, LABELS, RULE, size=99, min_texts=1)
    bags = read_bags([*TEXTS, "unheard"], reader)
    weights = weigh(bags, np.append(LABELS, 0), len(reader))
    torch.manual_seed(1)
    network = NgramClassifier(weights, 2, hidden=hidden).eval()
    torch.nn.init.normal_(network.rows.weight)
    torch.nn.init.normal_(network.bias)
    served = network(*map(torch.from_numpy, bags.fill(9)))
    flat = (bags.ids, normalise(bags, weights), bags.offsets[:-1])
    learning = network.forward_ragged(*map(torch.from_numpy, flat))
    torch.testing.assert_close(served, learning, rtol=1e-5, atol=1e-5)


def test_squared_hinges_are_those_of_a_linear_svm() -> None:
    logits = torch.tensor([[2.0, -3.0, 0.5]])
    # Right label beyond its margin, a wrong one too, another inside: (1 + 0.5)².
    assert float(measure_loss(logits, torch.tensor([0]), "margin")) == pytest.approx(2.25)


def test_a_threshold_is_where_answers_are_right_often_enough() -> None:
    sure = np.array([[4.0, 0.0]] * 95 + [[0.1, 0.0]] * 100, np.float32)
    labels = np.array([0] * 95 + [0, 1] * 50)
    assert 0.52 <= find_threshold(sure, labels, 1.0) < 0.98
    assert find_threshold(sure, 1 - labels * 0, 1.0) == 0.99


def test_languages_are_tuned_on_what_was_written() -> None:
    texts = [(f"text {number}", language) for number in range(2000) for language in ("de", "fr")]
    written = [Message(text, language, text) for text, language in texts]
    made_up = [Message(text, language, text, made_up=True) for text, language in texts]
    kept, aside = train_language.set_aside([*made_up, *written], 0.15)
    assert sorted([*kept, *aside]) == list(range(8000))
    assert aside.min() >= len(made_up)
    assert 0.1 < len(aside) / len(written) < 0.2
    # A message is on one side in all its languages.
    sides = Counter(written[index - len(made_up)].key for index in aside)
    assert set(sides.values()) == {2}


RECIPES = {
    "topics": (["--limit", "1000", "--epochs", "4", "--ngrams", "15000"], 0.4),
    "reuters": (["--limit", "1200", "--epochs", "4"], 0.85),
    "spam": (["--limit", "700", "--epochs", "4", "--ngrams", "10000"], 0.85),
    "language": (["--limit", "4000", "--min-messages", "780", "--epochs", "4", "--ngrams", "6000"], 0.6),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_makes_an_artifact_that_serves(datasets: Path, tmp_path: Path, recipe: str) -> None:
    said, least = RECIPES[recipe]
    argv = ["--data", str(datasets), "--out", str(tmp_path), "--threads", "1", *said]
    artifact = release_ngrams.release_recipe(recipe, release_ngrams.get_args_parser(recipe).parse_args(argv))
    assert artifact is not None
    verify(artifact)
    manifest = artifact.manifest
    assert manifest.made.command.startswith(f"python -m services.nlp.training.release_ngrams {recipe} ")
    assert str(tmp_path) not in (artifact.folder / "artifact.json").read_text()
    assert manifest.quality.parity is not None
    assert manifest.quality.metrics["accuracy"].value > least
    assert (
        manifest.quality.metrics["accuracy"].value
        >= json.loads((tmp_path / "results.json").read_text())["accuracy"][
            "messages" if recipe == "language" else "test"
        ]
        - 0.01
    )  # what int8 may take
    card = (artifact.folder / "card.md").read_text()
    assert "linear SVM" in card or "fastText" in card
    # As a replica reads it.
    classifier = CLASSIFIERS[artifact.preprocessing](read_artifact(artifact.folder))
    reading = classifier.reader.read("The company said its profit rose to 3 mln dlrs.")
    assert reading is not None
    session = onnxruntime.InferenceSession(artifact.graph_file("model"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], dict(reading.row))
    shares = classifier.score(logits[0]).shares
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    if recipe == "language":
        assert classifier.labels[int(shares.argmax())] == "en"


def test_a_run_goes_on_only_with_what_it_was_begun_with(datasets: Path, tmp_path: Path) -> None:
    parser = train_topics.get_args_parser()
    said = ["--data", str(datasets), "--out", str(tmp_path), "--limit", "300", "--ngrams", "3000"]
    first = train_topics.main(parser.parse_args([*said, "--epochs", "2"]))
    again = train_topics.main(parser.parse_args([*said, "--epochs", "2"]))
    assert again["answers"] == first["answers"]
    with pytest.raises(CheckpointError, match="--fresh"):
        train_topics.main(parser.parse_args([*said, "--epochs", "2", "--decay", "0.5"]))


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-3), ("fp64", 1e-9)])
def test_two_processes_learn_what_one_does(
    datasets: Path, tmp_path: Path, run_script: object, precision: str, most: float
) -> None:
    curves = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        done = run_script(  # type: ignore[operator]
            "services.nlp.training.train_reuters",
            *(
                "--data",
                datasets,
                "--out",
                out,
                "--limit",
                400,
                "--epochs",
                2,
                "--ngrams",
                3000,
                "--threads",
                1,
                "--precision",
                precision,
            ),
            processes=processes,
        )
        assert done.returncode == 0, done.stderr
        curves.append((out / "whole" / "curves.csv").read_text().splitlines())
    names = curves[0][0].split(",")
    place = names.index("train_loss")
    one, two = ([float(line.split(",")[place]) for line in curve[1:]] for curve in curves)
    assert one == pytest.approx(two, abs=most)


def test_a_missing_dataset_is_told(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="sensorium data pull newsgroups"):
        train_topics.main(
            train_topics.get_args_parser().parse_args(
                ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
            )
        )


@pytest.mark.parametrize("hidden", [0, 4])
def test_a_byte_for_each_number_changes_answers_by_their_rounding_only(hidden: int) -> None:
    generator = np.random.default_rng(3)
    network = NgramClassifier(generator.uniform(0.5, 9, 3001).astype(np.float32), 5, hidden=hidden).eval()
    torch.manual_seed(2)
    torch.nn.init.normal_(network.rows.weight)
    example = {"ids": torch.zeros(2, 3, dtype=torch.int64), "counts": torch.zeros(2, 3)}
    axes = {0: "batch", 1: "ngrams"}
    whole = to_onnx(network, example, ["logits"], {"ids": axes, "counts": axes})
    small = compact(whole)
    assert len(small) < 0.3 * len(whole)
    rows = {
        "ids": generator.integers(1, 3001, (50, 20)),
        "counts": generator.integers(0, 4, (50, 20)).astype(np.float32),
    }
    one, other = (
        onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(["logits"], rows)[0]
        for graph in (whole, small)
    )
    assert 0 < np.abs(one - other).max() < 0.05 * np.abs(one).max()


def test_another_graph_is_not_made_smaller() -> None:
    network = torch.nn.Linear(2, 2)
    graph = to_onnx(network, {"input": torch.zeros(2, 2)}, ["logits"])
    with pytest.raises(ExportError, match="NgramClassifier"):
        compact(graph)
