"""What a recipe makes: the parts of an artifact before they are written to a folder.

Here: the plain values that recipes return, and how they become files and the content of artifact.json. Not
here: writing, reading and checking folders (`artifact.py`).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.inference.manifest import (
    CARD,
    GOLDEN,
    MANIFEST,
    ArtifactError,
    Batching,
    Made,
    Precision,
    Quality,
    Tensor,
)


@dataclass(frozen=True)
class GraphDraft:
    """One graph's bytes, the file they go to, and its signature.

    `max_batch_size` is 0 where the first axis is no batch axis: such a graph runs alone and is never
    concatenated. `batching` is what its items cost, and how those of unlike lengths share a run. `precision` is
    that of the content, `variants` are the same graph in others: precision -> (file name, content).
    """

    content: bytes
    file: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_batch_size: int
    batching: Batching | None = None
    precision: Precision | None = None
    variants: Mapping[Precision, tuple[str, bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """All that a recipe knows of an artifact; the catalogue adds licence and source when it is written."""

    graphs: Mapping[str, GraphDraft]
    constants: Mapping[str, object]
    preprocessing: str
    golden: Mapping[str, NDArray[np.generic]]  # `<graph>/in/<input>` and `<graph>/out/<output>`
    golden_made_by: str
    tolerance: Mapping[str, Mapping[str, float]]  # provider -> {"rtol", "atol"}
    assets: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)  # asset -> (file name, content)
    made: Made | None = None  # of weights that were trained here; the catalogue's entry may say it instead
    quality: Quality | None = None  # likewise


def collect_files(entry: Mapping[str, Any], draft: Draft) -> dict[str, bytes]:
    """File name -> content of everything but artifact.json; two parts of one name must be equal."""
    golden = io.BytesIO()
    # Keys hold slashes, which savez takes as they are.
    arrays: dict[str, Any] = {key: np.asarray(value) for key, value in sorted(draft.golden.items())}
    np.savez_compressed(golden, **arrays)
    parts = [(graph.file, graph.content) for graph in draft.graphs.values()]
    parts += [variant for graph in draft.graphs.values() for variant in graph.variants.values()]
    parts += [(name, content) for name, content in draft.assets.values()]
    parts.append((GOLDEN, golden.getvalue()))
    if text := entry.get("card_text"):
        parts.append((CARD, str(text).encode()))
    files: dict[str, bytes] = {}
    for name, content in parts:
        if name == MANIFEST or files.setdefault(name, content) != content:
            raise ArtifactError(f"two files of the artifact are called {name!r}")
    return files


def describe(entry: Mapping[str, Any], draft: Draft, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The content of artifact.json as plain JSON values."""
    if missing := [key for key in ("name", "service", "version", "task", "license") if not entry.get(key)]:
        raise ArtifactError(f"the catalogue entry has no {missing[0]!r}")
    return {
        "format": 1,
        **{key: entry[key] for key in ("name", "version", "service", "task", "license")},
        **{key: entry.get(key, "") for key in ("description", "license_note", "training_data")},
        "graphs": {
            name: {
                "file": graph.file,
                "inputs": [_describe_tensor(tensor) for tensor in graph.inputs],
                "outputs": [_describe_tensor(tensor) for tensor in graph.outputs],
                "max_batch_size": graph.max_batch_size,
                **_describe_batching(graph.batching),
                **_describe_precision(graph),
            }
            for name, graph in draft.graphs.items()
        },
        "assets": {asset: name for asset, (name, _content) in draft.assets.items()},
        # Once through JSON: tuples become lists, and what JSON cannot say is refused here.
        "constants": _round_trip(draft.constants),
        "preprocessing": draft.preprocessing,
        "golden": {
            "made_by": draft.golden_made_by,
            "tolerance": {provider: dict(limits) for provider, limits in draft.tolerance.items()},
        },
        "files": {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in sorted(files.items())
        },
        "source": [
            {key: source[key] for key in ("registry", "package", "version", "sha256")}
            for source in entry.get("source", ())
        ],
        "made": {
            **{key: entry.get(key, "") for key in ("recipe", "recipe_sha256")},
            **_describe_model(entry.get("made") or draft.made),
        },
        **({"quality": said} if (said := _describe_model(entry.get("quality") or draft.quality)) else {}),
    }


def _describe_tensor(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": [int(axis) for axis in tensor.shape]}


def _describe_batching(batching: Batching | None) -> dict[str, Any]:
    """The field as far as it says anything."""
    said = batching.model_dump(mode="json", exclude_defaults=True) if batching is not None else {}
    return {"batching": said} if said else {}


def _describe_model(value: Made | Quality | None) -> dict[str, Any]:
    """The fields that say anything; artifacts that say nothing of them stay as they were, byte for byte."""
    return value.model_dump(mode="json", exclude_defaults=True) if value is not None else {}


def _describe_precision(graph: GraphDraft) -> dict[str, Any]:
    """The fields as far as they say anything."""
    said: dict[str, Any] = {"precision": graph.precision} if graph.precision else {}
    if graph.variants:
        said["variants"] = {precision: name for precision, (name, _content) in graph.variants.items()}
    return said


def _round_trip(constants: Mapping[str, object]) -> Any:
    try:
        return json.loads(json.dumps(constants, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"constants: expected what JSON can say, got: {error}") from error
