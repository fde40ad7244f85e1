"""Train the sentiment model that ships, and make the files beside its recipe.

    sensorium data pull vader minilm
    # files and artifact to runs/sentiment, goes on where it was
    .venv-training/bin/python -m services.nlp.training.export_sentiment
    # and the files to services/nlp/models
    .venv-training/bin/python -m services.nlp.training.export_sentiment --ship

It learns from all four domains, and from ratings as soft targets. The published weights do not lie in the tree: what does is
the change that training made (16-bit), the graph without weights, PyTorch's golden answers and the card. Everything in the
card is measured here, on snippets that training never saw, with the graph as it will be served.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from services.nlp.models import sentiment
from services.nlp.training import train_sentiment
from services.nlp.training.data.snippets import FILES, FOLDER, Snippet, read_domain, split
from services.nlp.training.data.tokens import pad, tokenize
from services.nlp.training.model.classifier import MiniLmText
from services.nlp.training.sentiment_card import Judged, write_card
from services.nlp.training.sentiment_data import MINILM, read_pinned, thin
from services.nlp.training.sentiment_graph import export, make_adapter, make_network, round_back
from services.nlp.training.train_sentiment import WEIGHTS
from shared.files import write_atomically
from shared.inference.artifact import write_artifact
from shared.inference.heldout import write_heldout
from shared.inference.manifest import Data, Gate, HeldOut, Quality
from shared.inference.weights import fill_graph, strip_graph
from shared.settings import state_dir
from shared.training.compression.half import fp16
from shared.training.compression.pareto import write_points
from shared.training.compression.weights import weight_only_int8
from shared.training.errors import TrainingError
from shared.training.evaluation.metrics import measure
from shared.training.export import check_parity
from shared.training.parity import ask_torch
from shared.training.provenance import collect_made, digest_data
from shared.training.release import PARITY, POINTS, REFERENCE, read_entry
from shared.training.run import launch

SCRIPT = "services.nlp.training.export_sentiment"
CATALOG = Path(sentiment.__file__).with_name("catalog.toml")
LEAST = 0.84  # accuracy on all held-out snippets below which no version serves
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


def main(arguments: argparse.Namespace) -> None:
    """Train, then write `<out>/recipe/sentiment.*` and the artifact `<out>/artifact/sentiment/<version>`.

    Raises:
        TrainingError: see `shared.training.errors`; or the graph does not answer as the network.
    """
    # Says nothing of the training, and would make another one of it.
    ship = vars(arguments).pop("ship", False)
    results = train_sentiment.main(arguments)
    with np.load(arguments.out / WEIGHTS) as stored:
        learned = {name: stored[name] for name in stored.files}
    folder = arguments.out / "recipe"
    folder.mkdir(exist_ok=True)
    members = {
        sentiment.WEIGHTS_MEMBER: read_pinned(arguments.data, "model.safetensors"),
        sentiment.TOKENIZER_MEMBER: read_pinned(arguments.data, "tokenizer.json"),
    }
    files = make_files(arguments, results, learned, members)
    for name, content in files.items():
        write_atomically(folder / f"sentiment.{name}", content)
    entry = read_entry(CATALOG, "sentiment") | {"card_text": files["card.md"]}
    write_artifact(arguments.out / "artifact", entry, sentiment.build_from(members, folder), replace=True)
    if ship:
        for path in sorted(folder.iterdir()):
            write_atomically(CATALOG.parent / path.name, path.read_bytes())


def make_files(
    arguments: argparse.Namespace,
    results: Mapping[str, Any],
    learned: Mapping[str, NDArray[np.float32]],
    members: Mapping[str, bytes],
) -> dict[str, str | bytes]:
    """The recipe's files by what follows `sentiment.` in their names; keeps parity and reference in the run's folder.

    Raises:
        TrainingError: the graph does not answer as the network.
    """
    adapter = make_adapter(learned)
    temperature = 1.0 / results["blend"]["scale"]
    weights = sentiment.merge(sentiment.read_published(members[sentiment.WEIGHTS_MEMBER]), adapter)
    tokenizer = members[sentiment.TOKENIZER_MEMBER]
    train, tests = _read_texts(arguments, tokenizer)

    network = make_network(weights)
    exact = export(network, weights)
    held_out = [inputs for texts in tests.values() for _, inputs in texts.batches()]
    few = {"at_least": 1} if arguments.limit else {}
    parity = check_parity(network, exact, held_out, keep=arguments.out / PARITY, **few)
    write_atomically(arguments.out / REFERENCE, exact)
    # As the recipe lays them out: the words' weights stay as they are.
    small = weight_only_int8(exact, keep={sentiment.WORDS}, wide_scales=True)
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
        uncalibrated={
            domain: np.array(results["answers"][domain]["logits"]) * temperature for domain in tests
        },
        results=results,
        parity=parity,
        ask=lambda texts: _ask(small, tokenizer, texts),
    )
    made = collect_made(
        SCRIPT,
        get_args_parser(),
        arguments,
        [
            _digest(arguments.data, "vader", [FOLDER / name for name in FILES.values()]),
            _digest(
                arguments.data, "minilm", [MINILM / name for name in ("model.safetensors", "tokenizer.json")]
            ),
        ],
    )
    quality = Quality(
        held_out=_write_heldout(judged),
        metrics=measure(judged.truth(), judged.scores(), sentiment.LABELS).to_manifest()
        | judged.domain_metrics(),
        gates={"accuracy": Gate(min=LEAST)},
        parity=parity,
    )
    card, plots = write_card(judged, made)
    write_points(arguments.out / POINTS, judged.points)
    said = {
        "made": made.model_dump(mode="json", exclude_defaults=True),
        "quality": quality.model_dump(mode="json", exclude_defaults=True),
    }
    return {
        "adapter.npz": _pack(adapter),
        "graph.onnx": graph,
        "golden.npz": _pack(_make_golden(make_network(round_back(weights, tensors)), tokenizer)),
        "made.json": json.dumps(said, indent=1) + "\n",
        "card.md": card,
        **plots,
    }


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


def _read_texts(
    arguments: argparse.Namespace, tokenizer: bytes
) -> tuple[tuple[Snippet, ...], dict[str, Texts]]:
    """What was learned from, and the held-out snippets of each domain."""
    train: list[Snippet] = []
    tests = {}
    for domain in FILES:
        found = read_domain(arguments.data, domain)
        divided = split(found, arguments.split)
        learned_from = domain in arguments.domains
        if learned_from:
            train += divided.train
        kept = divided.test if learned_from else tuple(found)
        kept = tuple(thin(kept, arguments.limit)) if arguments.limit else kept
        tests[domain] = Texts(kept, tokenize(tokenizer, [item.text for item in kept], sentiment.MAX_TOKENS))
    return tuple(thin(train, arguments.limit) if arguments.limit else train), tests


def _write_heldout(judged: Judged) -> HeldOut:
    items = [
        {"text": item.text, "label": sentiment.LABELS[item.label], "slice": domain}
        for domain, snippets in judged.tests.items()
        for item in snippets
    ]
    name = "rated snippets of films, products, tweets and editorials that training never saw"
    sha256 = write_heldout(state_dir(), "nlp", "sentiment", items, name=name, rpc="ClassifyText")
    return HeldOut(name=name, sha256=sha256, items=len(items))


def _digest(data: Path, name: str, files: Sequence[Path]) -> Data:
    return digest_data(name, [data / file for file in files], data)


def _pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def get_args_parser() -> argparse.ArgumentParser:
    """Training's options with the defaults of the model that ships."""
    parser = train_sentiment.get_args_parser("minilm")
    parser.description = __doc__
    parser.set_defaults(out=Path("runs/sentiment"), domains=list(FILES))
    parser.add_argument("--ship", action="store_true", help="put the files beside the recipe")
    return parser


if __name__ == "__main__":
    launch(main, get_args_parser())
