"""Distil the tuned MiniLM into a network of a twentieth of its size: self-attention over pieces of its own.

    .venv-training/bin/python -m services.nlp.training.export_sentiment --out runs/sentiment
    .venv-training/bin/python -m services.nlp.training.distill_sentiment --teacher runs/sentiment

The student never sees a label: it learns the teacher's scores (Hinton, Vinyals, Dean 2015, at temperature 1, where the
divergence from them is the cross entropy up to a constant), on the teacher's training snippets and on pieces of them, of
which there are as many as one likes (Tang et al. 2019). Its vectors of pieces begin as MiniLM's, turned to fewer dimensions.
It is chosen by and judged on the teacher's held-out snippets; results.json, the graph and its int8 form go to --out.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from services.nlp.training import train_sentiment
from services.nlp.training.data.snippets import LABELS, Snippet
from services.nlp.training.data.tokens import train_tokenizer
from services.nlp.training.model.classifier import MiniLmText, SelfAttention
from services.nlp.training.model.weights import load_learned
from services.nlp.training.sentiment_data import EVALUATED, Data, load_data, read_part, read_pinned
from services.nlp.training.train_sentiment import (
    RESULTS,
    TOKENIZER,
    WEIGHTS,
    judge,
    make_model,
    predict,
    train,
)
from shared.files import write_atomically
from shared.inference.safetensors import read_safetensors
from shared.training.arguments import make_parser, parse_count
from shared.training.compression.weights import weight_only_int8
from shared.training.distributed import wrap
from shared.training.errors import TrainingError
from shared.training.evaluation.calibration import softmax
from shared.training.export import to_onnx
from shared.training.randomness import item_rng
from shared.training.run import Run, launch, start

GRAPH, SMALL_GRAPH = "student.onnx", "student.int8.onnx"
_LEAST = 3  # words of a piece: fewer say nothing
_BREAK = re.compile(r"(?<=[,;:.!?])\s+|\s+(?=but |and |while |though )")


def cut_pieces(snippets: Sequence[Snippet], each: int, seed: int) -> list[Snippet]:
    """Pieces of snippets: what stands between signs, and stretches of random words. They have no label of their own."""
    pieces = []
    for index, snippet in enumerate(snippets):
        rng = item_rng(seed, 0, index)
        words = snippet.text.split()
        found = {part for part in _BREAK.split(snippet.text) if len(part.split()) >= _LEAST}
        while len(found) < each and len(words) > 2 * _LEAST:
            length = int(rng.integers(_LEAST, len(words)))
            begin = int(rng.integers(0, len(words) - length + 1))
            found.add(" ".join(words[begin : begin + length]))
        kept = sorted(found - {snippet.text})[:each]
        pieces += [
            replace(snippet, name=f"{snippet.name}#{number}", text=text) for number, text in enumerate(kept)
        ]
    return pieces


def ask_teacher(run: Run, folder: Path, pieces: int) -> tuple[Data, list[Snippet], NDArray[np.float64]]:
    """The teacher's data, what the student learns from (its training snippets and pieces of them), and its scores.

    Raises:
        TrainingError: the folder holds no finished training of MiniLM.
    """
    try:
        results = json.loads((folder / RESULTS).read_text())
        with np.load(folder / WEIGHTS) as stored:
            learned = {name: stored[name] for name in stored.files}
    except OSError as error:
        raise TrainingError(
            f"--teacher {folder}: expected a finished training, got: {error.strerror}; run export_sentiment first"
        ) from error
    theirs = train_sentiment.get_args_parser("minilm").parse_args([])
    vars(theirs).update(results["arguments"])
    vars(theirs).update(
        {name: getattr(run.arguments, name) for name in ("data", "limit", "precision", "threads")}
    )
    data, teacher = load_data(run, theirs, partial(make_model, run, theirs))
    if not isinstance(teacher, MiniLmText):
        raise TrainingError(f"--teacher {folder}: expected a training of minilm, got {theirs.model}")
    load_learned(teacher, learned)
    more = cut_pieces(data.train.snippets, pieces, run.seed)
    read = read_part(run, teacher, data.tokenizer, {}, 0.0, more, "pieces")
    logits = [predict(run, teacher, part, EVALUATED) for part in (data.train, read)]
    return data, [*data.train.snippets, *more], softmax(np.concatenate(logits))


def make_student(run: Run, tokenizer: bytes) -> SelfAttention:
    """A small network whose pieces begin as MiniLM's vectors, in the directions in which those differ most."""
    arguments = run.arguments
    vocabulary = Tokenizer.from_buffer(tokenizer).get_vocab()
    student = SelfAttention(
        len(vocabulary), len(LABELS), width=arguments.width, heads=4, blocks=arguments.blocks, dropout=0.1
    )
    theirs = Tokenizer.from_buffer(read_pinned(arguments.data, "tokenizer.json")).get_vocab()
    published = read_safetensors(read_pinned(arguments.data, "model.safetensors"))
    vectors = np.asarray(published["embeddings.word_embeddings.weight"], np.float32)
    common = [(ours, theirs[piece]) for piece, ours in vocabulary.items() if piece in theirs]
    places, rows = (torch.tensor(side) for side in zip(*common, strict=True))
    known = torch.from_numpy(vectors.copy())[rows]
    centred = known - known.mean(0)
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[: arguments.width]
    turned = centred @ directions.T
    with torch.no_grad():
        student.embedding.weight[places] = turned * (0.1 / turned.std())
    return student


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """Distil; returns what results.json holds, as `train_sentiment.main` does."""
    with start(arguments, "sentiment-student") as run:
        teachers, snippets, scores = ask_teacher(run, arguments.teacher, arguments.pieces)
        tokenizer = train_tokenizer(
            [snippet.text for snippet in teachers.train.snippets], arguments.vocabulary
        )
        student = wrap(make_student(run, tokenizer), run)
        read = partial(read_part, run, student, tokenizer, {}, 0.0)
        learned_from = replace(read(snippets, "train"), targets=torch.from_numpy(scores.astype(np.float32)))
        data = Data(
            learned_from,
            read(teachers.validation.snippets, "validation"),
            {domain: read(part.snippets, domain) for domain, part in teachers.tests.items()},
            tokenizer,
            teachers.digest,
        )
        run.say(f"{len(snippets)} texts with the teacher's scores, {len(data.validation.rows)} to choose by")
        fitted = train(run, student, data)
        results = judge(run, student, data) | {
            "validation": fitted.best,
            "duration_s": fitted.duration_s,
            "parameters": sum(weights.numel() for weights in student.parameters()),
        }
        for name, value in results["accuracy"].items():
            run.say(f"{name}: accuracy {value:.4f} on {len(results['answers'][name]['labels'])}")
        if run.is_main:
            exact = _export(student)
            (run.out / TOKENIZER).write_bytes(tokenizer)
            write_atomically(run.out / GRAPH, exact)
            write_atomically(run.out / SMALL_GRAPH, weight_only_int8(exact))
            write_atomically(run.out / RESULTS, json.dumps(results) + "\n")
    return results


def _export(student: SelfAttention) -> bytes:
    ids: Tensor = torch.randint(4, 100, (3, 7), generator=torch.Generator().manual_seed(0))
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    dynamic = {name: {0: "batch", 1: "length"} for name in example}
    return to_onnx(student.cpu().eval(), example, ["logits"], dynamic)


def get_args_parser() -> argparse.ArgumentParser:
    """Training's options and the student's own."""
    parser = make_parser(
        __doc__, epochs=6, batch_size=64, learning_rate=2e-3, weight_decay=0.05, precision="fp32"
    )
    group = parser.add_argument_group("distillation")
    group.add_argument(
        "--teacher",
        type=Path,
        default=Path("runs/sentiment"),
        metavar="DIR",
        help="a finished training's --out",
    )
    group.add_argument(
        "--pieces", type=parse_count, default=2, metavar="N", help="of each snippet, beside itself"
    )
    group.add_argument(
        "--vocabulary", type=parse_count, default=8000, metavar="N", help="pieces of its tokenizer"
    )
    group.add_argument("--width", type=parse_count, default=128, metavar="N", help="of its vectors")
    group.add_argument("--blocks", type=parse_count, default=2, metavar="N", help="of self-attention")
    return parser


if __name__ == "__main__":
    launch(main, get_args_parser())
