"""Make the sentiment model's files, beside its recipe, out of a training's folder.

    python -m services.nlp.training.train_sentiment --domains movie amazon tweets nyt --out runs/sentiment
    python -m services.nlp.training.export_sentiment runs/sentiment

The published weights do not lie in the tree: what does is the change that training made (16-bit), the graph without weights,
PyTorch's golden answers and the card. Everything in the card is measured here, on snippets that training never saw, with
the graph as it will be served.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from services.nlp.models import sentiment
from services.nlp.training.data.snippets import FILES, FOLDER, Snippet, read_domain, split
from services.nlp.training.data.tokens import pad, tokenize
from services.nlp.training.model.classifier import MiniLmText
from services.nlp.training.sentiment_card import Judged, write_card
from services.nlp.training.sentiment_graph import export, make_adapter, make_network, round_back
from services.nlp.training.train_sentiment import (
    MINILM,
    RESULTS,
    VALIDATION,
    WEIGHTS,
    get_args_parser,
    read_pinned,
)
from shared.files import write_atomically
from shared.inference.heldout import write_heldout
from shared.inference.manifest import Gate, HeldOut, Quality
from shared.inference.weights import fill_graph, strip_graph
from shared.settings import state_dir
from shared.training.compression.half import fp16
from shared.training.compression.weights import weight_only_int8
from shared.training.errors import TrainingError
from shared.training.evaluation.calibration import fit_temperature
from shared.training.evaluation.metrics import measure
from shared.training.export import check_parity
from shared.training.parity import ask_torch
from shared.training.provenance import collect_made, digest_data
from shared.training.release import PARITY, REFERENCE
from shared.training.run import launch

SCRIPT = "services.nlp.training.train_sentiment"
BATCH = 32
# Two that are plain, one that negates, one longer: unlike lengths, so that filling is in the golden too.
GOLDEN_TEXTS = (
    "A wonderful film.",
    "The battery died after two days and nobody answered my mails.",
    "not bad at all",
    "It begins as a gentle comedy, loses its way for an hour, and ends in a scene that nobody who sees it will forget.",
)


@dataclass(frozen=True)
class Texts:
    """Snippets as the graph reads them."""

    snippets: tuple[Snippet, ...]
    rows: list[torch.Tensor]

    def batches(self) -> list[tuple[NDArray[np.int64], dict[str, NDArray[np.int64]]]]:
        """Places of the snippets, sorted by length, and the graph's inputs."""
        order = np.argsort([len(row) for row in self.rows], kind="stable")
        return [(places, self._fill(places)) for places in np.array_split(order, -(-len(order) // BATCH))]

    def _fill(self, places: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        rows = [self.rows[place] for place in places]
        ids, mask = pad(rows, max(map(len, rows)))
        return {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}


def judge(
    forms: Mapping[str, bytes], tests: Mapping[str, Texts]
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Logits [items, labels] by form of the graph and domain, in the snippets' order."""
    answers: dict[str, dict[str, NDArray[np.float32]]] = {}
    for form, content in forms.items():
        session = open_session(content)
        answers[form] = {}
        for domain, texts in tests.items():
            logits = np.zeros((len(texts.snippets), len(sentiment.LABELS)), np.float32)
            for places, inputs in texts.batches():
                logits[places] = session.run(["logits"], inputs)[0]
            answers[form][domain] = logits
    return answers


def open_session(content: bytes) -> onnxruntime.InferenceSession:
    """The graph, run on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def main(folder: Path, *, data: Path, to: Path, state: Path) -> None:
    """Write the adapter, the graph, the golden answers, `made.json`, the card and its plots beside the recipe.

    Raises:
        TrainingError: the folder holds no finished training of MiniLM, or the graph does not answer as the network.
    """
    results, learned = _read_run(folder)
    parser = get_args_parser("minilm")
    arguments = parser.parse_args([])
    vars(arguments).update(results["arguments"])
    validation = results["answers"][VALIDATION]
    temperature = fit_temperature(np.array(validation["logits"]), np.array(validation["labels"]))
    adapter = make_adapter(learned, temperature)
    published = sentiment.read_published(read_pinned(data, "model.safetensors"))
    weights = sentiment.merge(published, {name: value.astype(np.float32) for name, value in adapter.items()})
    tokenizer = read_pinned(data, "tokenizer.json")
    train, tests = _read_texts(data, arguments, tokenizer)

    network = make_network(weights)
    exact = export(network, weights)
    held_out = [inputs for texts in tests.values() for _, inputs in texts.batches()]
    parity = check_parity(network, exact, held_out, keep=folder / PARITY)
    write_atomically(folder / REFERENCE, exact)
    small = weight_only_int8(exact)
    tensors = sentiment.lay_out(weights)
    graph = strip_graph(small, tensors.keys())
    if fill_graph(graph, tensors) != small:
        raise TrainingError(
            "the recipe lays weights out otherwise than the graph was made; see sentiment.lay_out"
        )

    forms = {"fp32": exact, "int8 weights": small, "fp16": fp16(exact)}
    judged = Judged(
        train=train,
        tests={domain: texts.snippets for domain, texts in tests.items()},
        logits=judge(forms, tests),
        forms=forms,
        temperature=temperature,
        uncalibrated={domain: np.array(results["answers"][domain]["logits"]) for domain in tests},
        results=results,
        parity=parity,
        ask=lambda texts: _ask(small, tokenizer, texts),
    )
    held = _write_heldout(state, judged)
    made = collect_made(
        SCRIPT,
        parser,
        arguments,
        [
            digest_data("vader", [data / FOLDER / name for name in FILES.values()], data),
            digest_data(
                "minilm", [data / MINILM / name for name in ("model.safetensors", "tokenizer.json")], data
            ),
        ],
    )
    pooled = measure(judged.truth(), judged.scores(), sentiment.LABELS)
    quality = Quality(
        held_out=held,
        metrics=pooled.to_manifest() | judged.domain_metrics(),
        gates={"accuracy": Gate(min=0.84)},
        parity=parity,
    )
    card, plots = write_card(judged, made)
    golden = _make_golden(make_network(round_back(weights, tensors)), tokenizer)
    np.savez_compressed(to / "sentiment.adapter.npz", **adapter)
    np.savez_compressed(to / "sentiment.golden.npz", **golden)
    contents: dict[str, str | bytes] = {
        "graph.onnx": graph,
        "made.json": json.dumps(
            {
                part: value.model_dump(mode="json", exclude_defaults=True)
                for part, value in (("made", made), ("quality", quality))
            },
            indent=1,
        )
        + "\n",
        "card.md": card,
        **plots,
    }
    for name, content in contents.items():
        write_atomically(to / f"sentiment.{name}", content)


def _make_golden(network: MiniLmText, tokenizer: bytes) -> dict[str, NDArray[np.generic]]:
    rows = tokenize(tokenizer, GOLDEN_TEXTS, sentiment.MAX_TOKENS)
    ids, mask = pad(rows, max(map(len, rows)))
    inputs = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    answers = ask_torch(network, inputs, ["logits"])
    return {
        **{f"model/in/{name}": value for name, value in inputs.items()},
        "model/out/logits": answers["logits"],
    }


def _ask(content: bytes, tokenizer: bytes, texts: list[str]) -> NDArray[np.float32]:
    """Logits of any texts."""
    rows = tokenize(tokenizer, texts, sentiment.MAX_TOKENS)
    unknown = tuple(Snippet("", text, 1.0) for text in texts)
    return judge({"": content}, {"": Texts(unknown, rows)})[""][""]


def _read_run(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    try:
        results = json.loads((folder / RESULTS).read_text())
        with np.load(folder / WEIGHTS) as stored:
            learned = {name: stored[name] for name in stored.files}
    except OSError as error:
        raise TrainingError(
            f"{folder}: expected a finished training, got: {error.strerror}; run {SCRIPT} first"
        ) from error
    if results["arguments"]["model"] != "minilm":
        raise TrainingError(f"{folder}: expected a training of minilm, got {results['arguments']['model']}")
    return results, learned


def _read_texts(
    data: Path, arguments: argparse.Namespace, tokenizer: bytes
) -> tuple[tuple[Snippet, ...], dict[str, Texts]]:
    """What was learned from, and the held-out snippets of each domain."""
    train: list[Snippet] = []
    tests = {}
    for domain in FILES:
        found = read_domain(data, domain)
        divided = split(found, arguments.split)
        learned_from = domain in arguments.domains
        if learned_from:
            train += divided.train
        kept = divided.test if learned_from else tuple(found)
        tests[domain] = Texts(kept, tokenize(tokenizer, [item.text for item in kept], sentiment.MAX_TOKENS))
    return tuple(train), tests


def _write_heldout(state: Path, judged: Judged) -> HeldOut:
    items = [
        {"text": item.text, "label": sentiment.LABELS[item.label], "slice": domain}
        for domain, snippets in judged.tests.items()
        for item in snippets
    ]
    name = "rated snippets of films, products, tweets and editorials that training never saw"
    sha256 = write_heldout(state, "nlp", "sentiment", items, name=name, rpc="ClassifyText")
    return HeldOut(name=name, sha256=sha256, items=len(items))


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of the training: its --out")
    parser.add_argument(
        "--data", type=Path, default=state_dir() / "datasets", metavar="DIR", help="folder of the datasets"
    )
    parser.add_argument(
        "--to", type=Path, default=Path(sentiment.__file__).parent, metavar="DIR", help="where the files go"
    )
    parser.add_argument(
        "--state", type=Path, default=state_dir(), metavar="DIR", help="where held-out items are written"
    )
    return parser


def _run(arguments: argparse.Namespace) -> None:
    main(arguments.folder, data=arguments.data, to=arguments.to, state=arguments.state)


if __name__ == "__main__":
    launch(_run, _make_parser())
