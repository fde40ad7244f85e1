"""From a trained network to an artifact folder, and to what `make quality` needs to check its claims.

    graph = to_onnx(network, example, ["logits"], dynamic)
    parity = check_parity(network, graph, held_out_batches, keep=run.out / PARITY)
    release(
        run.out / "artifact", catalog=CATALOG, name="topics",
        graph=draft_graph(smaller, batching=…), reference=graph, golden=make_golden(network, few_items),
        labels=labels, constants={…}, preprocessing="text-ngrams/1", assets={…},
        made=collect_made(…), quality=Quality(held_out=…, metrics=…, gates=…, parity=parity),
        card=render(card), plots={"reliability.png": …, "pareto.png": …},
    )

Lives here: the folder. Not here: what goes into it (`export.py`, `evaluation/`, `compression/`, `card/`,
`provenance.py`). Licence, description and task are the catalogue's, so that they are said once.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from shared.files import write_atomically
from shared.inference.artifact import Artifact, Draft, GraphDraft, copy_artifact, write_artifact
from shared.inference.manifest import Batching, Made, Precision, Quality
from shared.training.errors import TrainingError
from shared.training.export import read_signature
from shared.training.parity import ask_torch

# Files of a run's folder, beside the artifact, that `make quality` reads.
PARITY = "parity.npz"  # held-out inputs and torch's answers (`parity.check_parity`)
REFERENCE = "reference.onnx"  # the float32 export that parity is of
POINTS = "pareto.json"  # all forms that were tried (`compression.pareto.write_points`)

MAX_FILE_BYTES = 4 << 20  # of a file that lies in the tree
_ENTRY = ("version", "task", "license", "description", "license_note", "training_data")


class ReleaseError(TrainingError):
    """An artifact cannot be made of what was given; the text says of which part."""


def draft_graph(
    content: bytes,
    *,
    max_batch_size: int = 32,
    batching: Batching | None = None,
    precision: Precision | None = "fp32",
    file: str = "model.onnx",
    variants: Mapping[Precision, tuple[str, bytes]] | None = None,
) -> GraphDraft:
    """A graph with the signature that it has. precision: of its weights or sums: `int8` of either int8 form."""
    inputs, outputs = read_signature(content)
    return GraphDraft(content, file, inputs, outputs, max_batch_size, batching, precision, variants or {})


def make_golden(
    network: Any,
    inputs: Mapping[str, NDArray[Any]],
    outputs: Sequence[str] = ("logits",),
    graph: str = "model",
) -> dict[str, NDArray[Any]]:
    """Golden inputs and what torch answers to them: a few items, of unlike lengths where that may be."""
    answers = ask_torch(network, inputs, outputs)
    return {
        **{f"{graph}/in/{name}": np.asarray(value) for name, value in inputs.items()},
        **{f"{graph}/out/{name}": value for name, value in answers.items()},
    }


def release(
    models: Path,
    *,
    catalog: Path,
    name: str,
    graph: GraphDraft,
    golden: Mapping[str, NDArray[Any]],
    labels: Sequence[str],
    preprocessing: str,
    made: Made,
    quality: Quality,
    card: str,
    constants: Mapping[str, object] | None = None,
    assets: Mapping[str, tuple[str, bytes]] | None = None,
    plots: Mapping[str, bytes] | None = None,
    reference: bytes | None = None,
    tolerance: Mapping[str, Mapping[str, float]] | None = None,
    golden_made_by: str = "",
    version: str | None = None,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> Artifact:
    """Write the artifact `<models>/<name>/<version>`, replacing what was there, and check that it gives its golden answers.

    catalog: the service's catalog.toml, whose entry `name` holds version, task, description and licence; `version` goes
    before that. labels become the constant `labels`. plots: file name -> PNG, kept beside the card. reference: the float32
    export, kept in the folder above `models` for `make quality`. tolerance: of golden answers; without it 1e-3 + 1e-4 on
    CPUs and 1e-2 + 2e-3 on CUDA, which fits float32; int8 needs what was measured. max_file_bytes: more for
    artifacts that do not lie in the tree.

    Raises:
        ReleaseError: no such entry, a file too large for the tree, or golden answers out of tolerance.
        ArtifactError: the parts do not fit each other.
    """
    entry = read_entry(catalog, name)
    if version is not None:
        entry["version"] = version
    entry |= {"made": made, "quality": quality, "card_text": card}
    limits = tolerance or {
        "CPUExecutionProvider": {"rtol": 1e-3, "atol": 1e-4},
        # TF32 matrix products keep 10 bits of mantissa.
        "CUDAExecutionProvider": {"rtol": 1e-2, "atol": 2e-3},
    }
    draft = Draft(
        graphs={"model": graph},
        constants={"labels": list(labels), **(constants or {})},
        preprocessing=preprocessing,
        golden=golden,
        golden_made_by=golden_made_by
        or f"PyTorch {made.environment.get('torch', '')}, the trained network, seed {made.seed}",
        tolerance=limits,
        assets={**(assets or {}), **{Path(file).stem: (file, png) for file, png in (plots or {}).items()}},
    )
    _check_golden(graph, golden, limits)
    artifact = write_artifact(models, entry, draft, replace=True)
    for file, stated in artifact.manifest.files.items():
        if stated.bytes > max_file_bytes:
            raise ReleaseError(f"{name}: {file}: expected at most {max_file_bytes} bytes, got {stated.bytes}")
    if reference is not None:
        write_atomically(models.parent / REFERENCE, reference)
    return artifact


def read_entry(catalog: Path, name: str) -> dict[str, Any]:
    """What the catalogue says of a model, as `write_artifact` takes it.

    Raises:
        ReleaseError: the catalogue has no such entry.
    """
    document = tomllib.loads(catalog.read_text(encoding="utf-8"))
    if name not in document:
        raise ReleaseError(f"{catalog.name}: expected an entry [{name}], got {', '.join(document)}")
    entry = document[name]
    # services/<service>/models/catalog.toml
    return {
        "name": name,
        "service": catalog.resolve().parts[-3],
        **{key: entry[key] for key in _ENTRY if key in entry},
    }


def _check_golden(
    graph: GraphDraft, golden: Mapping[str, NDArray[Any]], limits: Mapping[str, Mapping[str, float]]
) -> None:
    """Fail here rather than when a replica loads it: the graph must give torch's answers."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.content, options, providers=["CPUExecutionProvider"])
    inputs = {key.rsplit("/", 1)[1]: value for key, value in golden.items() if "/in/" in key}
    wanted = {key.rsplit("/", 1)[1]: value for key, value in golden.items() if "/out/" in key}
    said = limits["CPUExecutionProvider"]
    for (name, expected), got in zip(wanted.items(), session.run(list(wanted), inputs), strict=True):
        close = np.isclose(got, expected, rtol=said["rtol"], atol=said["atol"])
        if not close.all():
            largest = float(np.abs(got.astype(np.float64) - expected)[~close].max())
            raise ReleaseError(
                f"golden answers: {name}: the graph differs from torch by {largest:.3g}, tolerance {said['rtol']:g} "
                f"relative + {said['atol']:g} absolute; an int8 graph needs the tolerance that was measured"
            )


def add_into(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """The option of every release that says where the artifact ships."""
    parser.add_argument(
        "--into",
        type=Path,
        default=None,
        metavar="DIR",
        help="folder of artifacts to which it is copied from OUT/artifact",
    )


def deliver(artifact: Artifact, into: Path | None) -> tuple[Artifact, int]:
    """The artifact where it ships, if that is asked for, else where it is; and the bytes of its files."""
    shipped = artifact if into is None else copy_artifact(artifact, into)
    return shipped, sum(file.bytes for file in shipped.manifest.files.values())
