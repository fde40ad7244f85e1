"""Learning a classifier over n-grams: what the recipes for topics, news, spam and languages share.

A recipe brings documents and a rule; what comes back is a network that was tuned on a part set aside (its temperature is
found there) and then learned from all of it. Not here: where documents come from (`data`), the
command lines (`train_*.py`), artifacts (`release_ngrams.py`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from services.nlp.pipeline.ngrams import NgramReader, NgramRule
from services.nlp.training.data.bags import Bags, learn_reader, normalise, read_bags, weigh
from services.nlp.training.data.documents import Documents, set_aside
from services.nlp.training.model.ngrams import NgramClassifier
from shared.training.arguments import (
    make_parser,
    parse_count,
    parse_fraction,
    parse_not_negative,
    parse_whole,
)
from shared.training.batches import GlobalBatches
from shared.training.distributed import Average, gather_rows, step, wrap
from shared.training.evaluation.calibration import fit_temperature, softmax
from shared.training.evaluation.metrics import calibration_error, log_loss
from shared.training.fit import Fitted, fit
from shared.training.run import Run
from shared.training.schedule import linear

RELIABLE = 0.95  # share of right answers among those whose score is above a model's threshold
EVALUATED = 256  # texts of a batch that nothing is learned from
RESULTS, WEIGHTS = "results.json", "classifier.npz"


@dataclass(frozen=True)
class Part:
    """Documents as the network reads them: bags, and what each n-gram of them counts for."""

    bags: Bags
    values: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bags)


@dataclass(frozen=True)
class Learned:
    """A network with what it reads by."""

    model: NgramClassifier
    reader: NgramReader
    names: tuple[str, ...]
    fitted: Fitted

    def read(self, documents: Documents) -> Part:
        """Other documents as this network reads them."""
        return read_part(documents, self.reader, self.model.weights[:, 0].cpu().numpy())


@dataclass(frozen=True)
class Trained:
    """All that a recipe's training gives: the network, what it learned from and was judged by, and its answers."""

    learned: Learned
    tuning: dict[str, Any]
    train: Documents
    tests: dict[str, Documents]  # the first is the one that counts
    logits: dict[str, NDArray[np.float32]]
    more: dict[str, Any]  # a recipe's own entries of results.json


def read_part(documents: Documents, reader: NgramReader, weights: NDArray[np.float32]) -> Part:
    """Documents as a network with these weights reads them."""
    bags = read_bags(documents.texts, reader)
    return Part(bags, normalise(bags, weights), documents.labels)


def learn(run: Run, rule: NgramRule, train: Documents, valid: Documents | None) -> Learned:
    """Choose n-grams and learn their weights from `train`; the epoch that suits `valid` best counts.

    Without `valid` it is the one that fits `train` best: one of the last, as the learning rate ends at nothing.
    """
    arguments = run.arguments
    reader, bags = learn_reader(
        train.texts, train.labels, rule, size=arguments.ngrams, min_texts=arguments.min_texts
    )
    weights = weigh(bags, train.labels, len(reader))
    part = Part(bags, normalise(bags, weights), train.labels)
    judged = part if valid is None else read_part(valid, reader, weights)
    network = NgramClassifier(weights, len(train.names), hidden=arguments.hidden, dropout=arguments.dropout)
    model = wrap(network, run)
    # Fused: a third of the time, as every step moves every weight.
    optimizer = torch.optim.Adam(model.parameters(), lr=arguments.learning_rate, fused=True)
    batches = GlobalBatches(len(part), arguments.batch_size, arguments.seed, run)
    fitted = fit(
        run,
        model,
        optimizer,
        train_one_epoch=lambda epoch: train_one_epoch(run, model, optimizer, part, batches, epoch),
        evaluate=lambda: evaluate(run, model, judged),
        epochs=arguments.epochs,
        patience=arguments.patience,
        metric="log_loss",
        better="lower",
        schedule=linear(warmup=0.05),
        data_digest=train.sha256,
    )
    return Learned(model, reader, train.names, fitted)


def train_one_epoch(
    run: Run,
    model: NgramClassifier,
    optimizer: torch.optim.Optimizer,
    part: Part,
    batches: GlobalBatches,
    epoch: int,
) -> dict[str, float]:
    """One pass over the documents; returns the mean loss, without the decay."""
    arguments = run.arguments
    model.train()
    mean = Average()
    for batch in run.track(batches.epoch(epoch), f"epoch {epoch}", len(batches)):
        labels = torch.from_numpy(part.labels[batch.indices]).to(run.device)
        loss = measure_loss(
            answer(run, model, part, batch.indices), labels, arguments.loss, arguments.smoothing
        )
        # Of the rows only those of the batch pull; the decay pulls all of them, once for all processes.
        decay = sum(weights.square().sum() for weights in model.parameters() if weights.dim() > 1)
        share = len(batch) / batch.global_size
        step(run, model, optimizer, loss / batch.global_size + arguments.decay / 2 * share * decay)
        mean.add(loss, len(batch))
    return {"loss": mean.value(run)}


def measure_loss(logits: Tensor, labels: Tensor, kind: str, smoothing: float = 0.0) -> Tensor:
    """The sum over the items of cross-entropy, or of squared hinges of every label against the rest (a linear SVM's)."""
    if kind == "entropy":
        return functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    sides = functional.one_hot(labels, logits.shape[1]).to(logits.dtype) * 2 - 1
    return (1 - sides * logits).clamp(min=0).square().sum()


def answer(run: Run, model: NgramClassifier, part: Part, indices: NDArray[np.int64]) -> Tensor:
    """Logits [items, labels] of some of a part's items."""
    taken = part.bags.take(indices)
    places = np.arange(taken.offsets[-1]) + np.repeat(
        part.bags.offsets[indices] - taken.offsets[:-1], taken.lengths
    )
    tensors = (taken.ids, part.values[places], taken.offsets[:-1])
    return model.forward_ragged(*(torch.from_numpy(array).to(run.device) for array in tensors))


def evaluate(run: Run, model: NgramClassifier, part: Part) -> dict[str, float]:
    """Accuracy of a part, and the mean negative log likelihood at its best temperature."""
    logits = predict(run, model, part)
    likelihood = log_loss(part.labels, softmax(logits, fit_temperature(logits, part.labels)))
    return {"accuracy": float((logits.argmax(1) == part.labels).mean()), "log_loss": likelihood}


def predict(run: Run, model: NgramClassifier, part: Part) -> NDArray[np.float32]:
    """Logits [items, labels] in the part's order, in every process."""
    model.eval()
    batches = GlobalBatches(len(part), EVALUATED, 0, run, shuffle=False)
    indices, logits = [], []
    with torch.inference_mode():
        for batch in batches.epoch(1):
            indices.append(batch.indices)
            logits.append(answer(run, model, part, batch.indices).cpu().numpy())
    return gather_rows(run, indices, logits)


def tune_and_learn(
    run: Run,
    rule: NgramRule,
    train: Documents,
    divide: Callable[[Documents, float], tuple[NDArray[np.int64], NDArray[np.int64]]] | None = None,
) -> tuple[Learned, dict[str, Any]]:
    """Learn twice: from a part, to find the temperature and what to expect, then from everything.

    divide: (documents, share) -> indices of what is kept and of what is set aside; without it the last of each label.
    Returns the second network, calibrated, and what the first was worth on what was set aside.
    """
    share = run.arguments.validation
    parts = set_aside(train.labels, share) if divide is None else divide(train, share)
    kept, aside = (train.take(part) for part in parts)
    run.say(f"tuning: {len(kept)} texts to learn from, {len(aside)} set aside")
    first = learn(_inside(run, "tuning"), rule, kept, aside)
    logits = predict(run, first.model, first.read(aside))
    temperature = fit_temperature(logits, aside.labels)
    tuning = {
        "temperature": temperature,
        "calibration_error": calibration_error(aside.labels, softmax(logits, temperature)),
        **first.fitted.best,
        "threshold": find_threshold(logits, aside.labels, temperature),
        "duration_s": first.fitted.duration_s,
    }
    run.say(f"learning from all {len(train)} texts; temperature {temperature:.3f}")
    learned = learn(_inside(run, "whole"), rule, train, None)
    learned.model.temperature.fill_(temperature)
    return learned, tuning


def find_threshold(logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float) -> float:
    """The least score from which on answers are right often enough to be relied on, in hundredths; at most 0.99."""
    shares = softmax(logits, temperature)
    best, right = shares.max(1), shares.argmax(1) == labels
    for hundredths in range(1, 99):
        above = best > hundredths / 100
        if above.any() and right[above].mean() >= RELIABLE:
            return hundredths / 100
    return 0.99


def _inside(run: Run, name: str) -> Run:
    """The same run with checkpoints and curves in a folder of their own."""
    folder = run.out / name
    folder.mkdir(parents=True, exist_ok=True)
    return dataclasses.replace(run, out=folder)


def judge(
    run: Run,
    learned: Learned,
    tuning: dict[str, Any],
    train: Documents,
    tests: dict[str, Documents],
    **more: Any,
) -> Trained:
    """Answer every set that training never saw."""
    logits = {}
    for name, documents in tests.items():
        logits[name] = predict(run, learned.model, learned.read(documents))
        run.say(f"{name}: accuracy {_measure_accuracy(logits[name], documents):.4f} on {len(documents)}")
    return Trained(learned, tuning, train, tests, logits, more)


def _measure_accuracy(logits: NDArray[np.float32], documents: Documents) -> float:
    return float((logits.argmax(1) == documents.labels).mean())


def keep(run: Run, trained: Trained) -> dict[str, Any]:
    """Write the network, the answers and results.json to --out; returns what results.json holds.

    answers: of each test the labels and the best answers, item by item.
    """
    learned = trained.learned
    results = {
        "seed": run.seed,
        "names": list(learned.names),
        "ngrams": len(learned.reader),
        "rule": learned.reader.rule.model_dump(mode="json"),
        "tuning": trained.tuning,
        "accuracy": {
            name: _measure_accuracy(trained.logits[name], documents)
            for name, documents in trained.tests.items()
        },
        "calibration_error": {
            name: calibration_error(documents.labels, softmax(trained.logits[name]))
            for name, documents in trained.tests.items()
        },
        "duration_s": round(learned.fitted.duration_s + trained.tuning["duration_s"], 1),
        "answers": {
            name: {"labels": documents.labels.tolist(), "best": trained.logits[name].argmax(1).tolist()}
            for name, documents in trained.tests.items()
        },
        **trained.more,
    }
    if run.is_main:
        state = {name: value.cpu().numpy() for name, value in learned.model.state_dict().items()}
        np.savez_compressed(run.out / WEIGHTS, table=learned.reader.table, **state)
        (run.out / RESULTS).write_text(json.dumps(results, ensure_ascii=False) + "\n")
    return results


def make_ngram_parser(
    doc: str | None,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    ngrams: int,
    loss: str = "margin",
    decay: float = 0.0,
    hidden: int = 0,
    min_texts: int = 2,
    validation: float = 0.1,
) -> argparse.ArgumentParser:
    """The shared options and those of bags of n-grams; the keywords are a recipe's defaults."""
    parser = make_parser(doc, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    group = parser.add_argument_group("n-grams")
    group.add_argument("--ngrams", type=parse_count, default=ngrams, metavar="N", help="that the model knows")
    group.add_argument(
        "--min-texts", type=parse_count, default=min_texts, metavar="N", help="in which an n-gram must be"
    )
    group.add_argument(
        "--hidden",
        type=parse_whole,
        default=hidden,
        metavar="N",
        help="numbers of an n-gram; 0 = a linear model",
    )
    group.add_argument("--dropout", type=parse_fraction, default=0.0, metavar="X", help="of the hidden layer")
    group.add_argument(
        "--loss", choices=("margin", "entropy"), default=loss, help="squared hinges, or cross-entropy"
    )
    group.add_argument(
        "--smoothing",
        type=parse_fraction,
        default=0.0,
        metavar="X",
        help="of the labels, with --loss entropy",
    )
    group.add_argument(
        "--decay", type=parse_not_negative, default=decay, metavar="X", help="pull of all weights towards 0"
    )
    group.add_argument(
        "--validation",
        type=parse_fraction,
        default=validation,
        metavar="X",
        help="share set aside for tuning",
    )
    return parser
