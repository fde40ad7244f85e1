"""Train a classifier that tells positive from negative texts, on one rung of the ladder.

    sensorium data pull vader minilm
    # MiniLM, upper layers tuned by LoRA
    .venv-training/bin/python -m services.nlp.training.train_sentiment
    # also: rnn, lstm, attention
    .venv-training/bin/python -m services.nlp.training.train_sentiment --model bag
    .venv-training/bin/python -m services.nlp.training.train_sentiment --domains movie amazon tweets nyt
    .venv-training/bin/torchrun --nproc-per-node 2 -m services.nlp.training.train_sentiment --model attention

Learns from film snippets that people rated (those rated within ±0.5 are left out), chooses the epoch on a part held out of
them, and is judged on another part and, as the domain shift it is, on product reviews, tweets and editorials. Writes
checkpoints, curves.csv, the tokenizer and results.json to --out. `export_sentiment` makes the artifact from there,
`distill_sentiment` a smaller model.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from services.nlp.training.data.snippets import FILES, LABELS
from services.nlp.training.data.tokens import pad
from services.nlp.training.model.classifier import EmbeddingBag, MiniLmText, RecurrentText, SelfAttention
from services.nlp.training.model.minilm import load_minilm
from services.nlp.training.model.weights import read_learned
from services.nlp.training.model.words import Blend, fit_blend, fit_words, score_words
from services.nlp.training.sentiment_data import EVALUATED, Data, Part, States, load_data, read_pinned
from shared.files import write_atomically
from shared.inference.safetensors import read_safetensors
from shared.training.arguments import make_parser, parse_count, parse_not_negative, parse_once, parse_whole
from shared.training.batches import GlobalBatches
from shared.training.distributed import Average, gather_rows, step, wrap
from shared.training.fit import Fitted, fit
from shared.training.precision import widen
from shared.training.run import Run, launch, start
from shared.training.schedule import linear

FIXED_SPLIT = 0  # of the shipped model; measurements over seeds divide by the seed
RESULTS, WEIGHTS, TOKENIZER = "results.json", "weights.npz", "tokenizer.json"
VALIDATION = "validation"  # among the names of domains in results.json
CLIP = 1.0  # longest gradient; a first batch of short, loud snippets would throw the head off


@dataclass(frozen=True)
class Rung:
    """What a model of the ladder is trained with unless the command says otherwise."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    sharpness: float = 0.0
    precision: str = "fp32"


RUNGS = {
    "bag": Rung(epochs=12, batch_size=32, learning_rate=3e-3, weight_decay=0.1),
    "rnn": Rung(epochs=8, batch_size=32, learning_rate=1e-3, weight_decay=0.1),
    "lstm": Rung(epochs=8, batch_size=32, learning_rate=2e-3, weight_decay=0.1),
    "attention": Rung(epochs=8, batch_size=32, learning_rate=1e-3, weight_decay=0.1),
    # bf16 products halve the time on CPUs that have them; the accuracy is the same within its noise.
    "minilm": Rung(3, batch_size=32, learning_rate=1e-3, weight_decay=0.01, sharpness=1.5, precision="bf16"),
}


def make_model(run: Run, arguments: argparse.Namespace, tokenizer: bytes) -> nn.Module:
    """The network of a rung, ready to be trained; MiniLM's with the published weights."""
    vocabulary, labels = Tokenizer.from_buffer(tokenizer).get_vocab_size(), len(LABELS)
    if arguments.model == "minilm":
        minilm = load_minilm(read_safetensors(read_pinned(arguments.data, "model.safetensors")))
        model: nn.Module = MiniLmText(minilm, labels, tuned=arguments.tuned, rank=arguments.rank)
    elif arguments.model == "bag":
        model = EmbeddingBag(vocabulary, labels)
    elif arguments.model == "attention":
        model = SelfAttention(vocabulary, labels)
    else:
        model = RecurrentText(arguments.model, vocabulary, labels)
    return wrap(model, run)


def train_one_epoch(
    run: Run,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    part: Part,
    batches: GlobalBatches,
    epoch: int,
) -> dict[str, float]:
    """One pass over the data; returns the mean loss."""
    model.train()
    loss_mean = Average()
    for batch in run.track(batches.epoch(epoch), f"epoch {epoch}", len(batches)):
        with run.autocast():
            logits = forward(model, part, batch.indices, batch.longest)
        targets = part.targets[batch.indices].to(run.device)
        loss = functional.cross_entropy(widen(logits), targets, reduction="sum") / batch.global_size
        step(run, model, optimizer, loss, clip_norm=CLIP)
        loss_mean.add(loss * batch.global_size, len(batch))
    return {"loss": loss_mean.value(run)}


def evaluate(run: Run, model: nn.Module, part: Part, batch_size: int) -> dict[str, float]:
    """Loss and accuracy on a part, by labels (not by soft targets)."""
    logits = predict(run, model, part, batch_size)
    labels = torch.tensor([snippet.label for snippet in part.snippets])
    loss = functional.cross_entropy(torch.from_numpy(logits), labels)
    return {"loss": float(loss), "accuracy": float((logits.argmax(1) == labels.numpy()).mean())}


def predict(run: Run, model: nn.Module, part: Part, batch_size: int) -> NDArray[np.float32]:
    """Logits [items, labels] in the part's order, in every process."""
    batches = GlobalBatches(len(part.rows), batch_size, 0, run, part.lengths, shuffle=False)
    model.eval()
    indices, logits = [], []
    with torch.inference_mode():
        for batch in batches.epoch(1):
            with run.autocast():
                answered = forward(model, part, batch.indices, batch.longest)
            indices.append(batch.indices)
            logits.append(answered.float().cpu().numpy())
    return gather_rows(run, indices, logits)


def forward(model: nn.Module, part: Part, indices: NDArray[np.int64], longest: int) -> Tensor:
    """Logits [items, labels] of some of a part's items."""
    device = next(model.parameters()).device
    filled, mask = (tensor.to(device) for tensor in pad([part.rows[index] for index in indices], longest))
    if isinstance(model, MiniLmText):
        ids, _ = pad([part.tokens[index] for index in indices], longest)
        return model.classify(filled.float(), ids.to(device), mask)
    return model(filled, mask)


def train(run: Run, model: nn.Module, data: Data) -> Fitted:
    """Fit the model; it holds the weights of the epoch with the best validation accuracy afterwards."""
    arguments = run.arguments
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=arguments.learning_rate, weight_decay=arguments.weight_decay)
    batches = GlobalBatches(
        len(data.train.rows), arguments.batch_size, arguments.seed, run, data.train.lengths
    )
    return fit(
        run,
        model,
        optimizer,
        train_one_epoch=partial(train_one_epoch, run, model, optimizer, data.train, batches),
        evaluate=partial(evaluate, run, model, data.validation, EVALUATED),
        epochs=arguments.epochs,
        patience=arguments.patience,
        metric="accuracy",
        schedule=linear(warmup=0.06),
        save_frozen=False,
        data_digest=data.digest,
    )


def settle(run: Run, model: MiniLmText, data: Data) -> Blend:
    """Add words' weights, learned from the same snippets; in which proportion, validation says."""
    words = fit_words(data.train.tokens, data.train.targets[:, -1], len(model.words))
    logits = torch.from_numpy(predict(run, model, data.validation, EVALUATED))
    labels = torch.tensor([snippet.label for snippet in data.validation.snippets])
    blend = fit_blend(logits[:, -1] - logits[:, 0], score_words(words, data.validation.tokens), labels)
    model.settle(words.to(run.device), blend)
    return blend


def judge(run: Run, model: nn.Module, data: Data) -> dict[str, Any]:
    """Accuracy on each domain's held-out part and in validation, and every answer: name, label and logits by snippet."""
    accuracy, answers = {}, {}
    for name, part in (*data.tests.items(), (VALIDATION, data.validation)):
        logits = predict(run, model, part, EVALUATED)
        labels = [snippet.label for snippet in part.snippets]
        accuracy[name] = float((logits.argmax(1) == labels).mean())
        answers[name] = {
            "names": [snippet.name for snippet in part.snippets],
            "labels": labels,
            "logits": np.round(logits.astype(np.float64), 5).tolist(),
        }
    return {"accuracy": accuracy, "answers": answers}


def main(arguments: argparse.Namespace, states: States | None = None) -> dict[str, Any]:
    """Train as the arguments say; returns what results.json holds: accuracy by domain, answers, epochs, seconds.

    states: see `load_data`.

    Raises:
        TrainingError: see `shared.training.errors`.
    """
    with start(arguments, f"sentiment-{arguments.model}") as run:
        data, model = load_data(run, arguments, partial(make_model, run, arguments), states)
        counts = ", ".join(f"{len(part.rows)} {name}" for name, part in data.tests.items())
        run.say(
            f"{len(data.train.rows)} to learn from, {len(data.validation.rows)} to choose by; to judge: {counts}"
        )
        fitted = train(run, model, data)
        blend = settle(run, model, data) if isinstance(model, MiniLmText) else Blend(1.0, 0.0)
        results = judge(run, model, data)
        results |= {
            "blend": {"scale": blend.scale, "share": blend.share},
            "arguments": {
                name: value for name, value in vars(arguments).items() if name not in ("data", "out")
            },
            "parameters": sum(weights.numel() for weights in model.parameters() if weights.requires_grad),
            "validation": fitted.best,
            "best_epoch": fitted.best_epoch,
            "duration_s": fitted.duration_s,
            "data_sha256": data.digest,
        }
        for name, value in results["accuracy"].items():
            run.say(f"{name}: accuracy {value:.4f} on {len(results['answers'][name]['labels'])}")
        if run.is_main:
            (run.out / TOKENIZER).write_bytes(data.tokenizer)
            np.savez_compressed(run.out / WEIGHTS, **read_learned(model))
            write_atomically(run.out / RESULTS, json.dumps(results) + "\n")
    return results


def run_once(
    seed: int,
    data_dir: Path,
    out_dir: Path,
    *,
    model: str = "minilm",
    limit: int | None = None,
    states: States | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """One seed's training, split included, for measurements: what `main` returns."""
    own = "--split", str(seed)
    arguments = parse_once(get_args_parser(model), seed, data_dir, out_dir, *own, limit=limit)
    unknown = changes.keys() - vars(arguments).keys()
    if unknown:
        raise ValueError(f"no such argument: {', '.join(sorted(unknown))}")
    vars(arguments).update(changes)
    return main(arguments, states)


def get_args_parser(model: str = "minilm") -> argparse.ArgumentParser:
    """The options, with the defaults of a rung."""
    rung = RUNGS[model]
    parser = make_parser(
        __doc__,
        epochs=rung.epochs,
        batch_size=rung.batch_size,
        learning_rate=rung.learning_rate,
        weight_decay=rung.weight_decay,
        precision=rung.precision,
    )
    group = parser.add_argument_group("sentiment")
    group.add_argument(
        "--model", choices=RUNGS, default=model, help="rung of the ladder; sets the other defaults"
    )
    group.add_argument(
        "--domains",
        nargs="+",
        choices=FILES,
        default=["movie"],
        help="what to learn from; the others are a shift",
    )
    group.add_argument(
        "--split", type=parse_whole, default=FIXED_SPLIT, metavar="N", help="which division into parts"
    )
    group.add_argument(
        "--sharpness",
        type=parse_not_negative,
        default=rung.sharpness,
        metavar="X",
        help="soft targets: logistic of X times the rating; 0 = the label alone",
    )
    group.add_argument(
        "--vocabulary", type=parse_count, default=8000, metavar="N", help="pieces of a trained tokenizer"
    )
    group.add_argument(
        "--tuned", type=parse_count, default=4, metavar="N", help="upper layers of MiniLM that learn"
    )
    group.add_argument(
        "--rank", type=parse_count, default=8, metavar="N", help="of what each of their layers learns"
    )
    return parser


def peek_model(argv: Sequence[str]) -> str:
    """The rung that a command line names: its defaults are needed before the line is parsed."""
    peeking = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peeking.add_argument("--model", default="minilm")
    name = peeking.parse_known_args(argv)[0].model
    return name if name in RUNGS else "minilm"


if __name__ == "__main__":
    launch(main, get_args_parser(peek_model(sys.argv[1:])))
