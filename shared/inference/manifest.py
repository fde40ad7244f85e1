"""What artifact.json says: the fields of the format, and what they must say about each other.

Here: the format as frozen values. Not here: folders and digests (`artifact.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from shared.inference.datatypes import NUMPY_TYPES

MANIFEST = "artifact.json"
GOLDEN = "golden.npz"
CARD = "card.md"
# Over artifact.json, and so not among the files of which it says digests.
SIGNATURE = "signature.jws"

# Names become folders, files and wire names: nothing that could leave the folder or be taken for an option.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


# What weights and sums of a graph are held in; inputs and outputs are as its signature says.
Precision = Literal["fp32", "fp16", "int8"]


class ArtifactError(Exception):
    """An artifact cannot be read, checked or written; `reason` says which file or field, expected and got."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Tensor:
    """One input or output of a graph: name, Open Inference Protocol dtype, shape (-1 = any length)."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cost(_Strict):
    """What a run costs, in a unit of the graph's own (pixels, tokens, samples): the product of an input's axes."""

    input: str
    axes: tuple[int, ...] = Field(min_length=1)


class PadOutput(_Strict):
    """An axis of an output that is as long as the inputs' padded one, or has one place for every so many of theirs."""

    axis: int = Field(ge=1)
    every: int = Field(default=1, ge=1)  # rounded up: 1000 samples at 512 a chunk are 2 chunks


class Pad(_Strict):
    """Rows of unlike lengths may share a run: filled up along one axis of the inputs, cut off again from the outputs.

    The graph must give a row the same answer however far it is filled up: it reads a mask, which is one of the inputs,
    or never looks ahead.
    """

    axis: int = Field(ge=1)  # of every input named below, which are equally long along it
    inputs: dict[str, int | float] = Field(min_length=1)  # input -> what fills it up
    outputs: dict[str, PadOutput] = {}  # those that grow with the inputs; a bare number is the axis

    @field_validator("outputs", mode="before")
    @classmethod
    def _read_axes(cls, outputs: Any) -> Any:
        if not isinstance(outputs, dict):
            return outputs
        return {name: {"axis": said} if isinstance(said, int) else said for name, said in outputs.items()}


class Batching(_Strict):
    """How items of one graph share a run; left out: rows of equal shapes do, and each row costs 1."""

    cost: Cost | None = None
    pad: Pad | None = None
    max_cost: float | None = Field(default=None, gt=0)  # of one run with its filling, in the unit of `cost`


class Graph(_Strict):
    """A graph's file and signature, as artifact.json states them."""

    file: Name
    inputs: tuple[Tensor, ...] = Field(min_length=1)
    outputs: tuple[Tensor, ...] = Field(min_length=1)
    max_batch_size: int = Field(ge=0)
    batching: Batching = Batching()
    precision: Precision | None = None  # of the file's weights and sums; None = not stated
    variants: dict[Precision, Name] = {}  # files of the same graph and signature in other precisions

    def find_precision(self, wanted: Precision | None) -> Precision | None:
        """The precision in which it can run: the wanted one if there is a file of it, else that of its own file."""
        return wanted if wanted in self.variants else self.precision

    def find_file(self, precision: Precision | None) -> str:
        """The file of a precision; its own where there is none, or none is asked for."""
        return self.file if precision is None else self.variants.get(precision, self.file)

    @property
    def shapes_vary(self) -> bool:
        """Whether runs may differ in more than their rows: sizes of images, lengths of texts and clips."""
        first = 1 if self.max_batch_size else 0
        return any(-1 in tensor.shape[first:] for tensor in self.inputs)


class Tolerance(_Strict):
    """How far from the golden outputs a provider may be: |got - golden| <= atol + rtol * |golden|.

    Stated by provider (`CPUExecutionProvider`) for each graph's own file, and by provider and precision for its variants
    (`CPUExecutionProvider/int8`).
    """

    rtol: float = Field(ge=0)
    atol: float = Field(ge=0)


class _Golden(_Strict):
    made_by: str
    tolerance: dict[str, Tolerance]


class _File(_Strict):
    sha256: _Sha256
    bytes: int = Field(ge=0)


class _Source(_Strict):
    registry: str
    package: str
    version: str
    sha256: str


class Data(_Strict):
    """A set of data that a model was made from: its name, and the digest of all its files that were read."""

    name: str
    sha256: _Sha256


class Made(_Strict):
    """What an artifact was made by: a recipe from published weights, or a training command from data.

    `command` with `arguments` and `seed`, at `commit`, on `data` makes it again; its metrics then agree with those of
    `quality` within `tolerance`. Neither holds a path of the machine that it was made on.
    """

    recipe: str = ""
    recipe_sha256: str = ""
    command: str = ""  # in the root of the checkout; empty = made by no training
    commit: str = ""  # of the code; ends in `+changed` where files that it reads were not committed
    seed: int | None = None
    arguments: dict[str, Any] = {}
    environment: dict[str, str] = {}  # python, torch, onnxruntime, numpy, cpu, …
    data: tuple[Data, ...] = ()
    tolerance: dict[str, Annotated[float, Field(ge=0)]] = {}  # metric -> how far another making may be off


class HeldOut(_Strict):
    """The items that metrics were measured on, of which training saw none."""

    name: str
    sha256: _Sha256
    items: int = Field(ge=1)


class Metric(_Strict):
    """A figure on the held-out items and its 95 % interval."""

    value: float
    low: float
    high: float


class Gate(_Strict):
    """What a metric must clear before a version may serve: at least `min`, at most `max`."""

    min: float | None = None
    max: float | None = None

    def admits(self, value: float) -> bool:
        """Whether a value clears it; not-a-number never does."""
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class Parity(_Strict):
    """How far the exported graph was from the network that it came from, on so many held-out inputs."""

    items: int = Field(ge=1)
    largest: float = Field(ge=0)  # largest absolute difference of any output value
    atol: float = Field(ge=0)
    rtol: float = Field(ge=0)


class Quality(_Strict):
    """What was measured of a version before it was released, and what its successors are judged by."""

    held_out: HeldOut | None = None
    metrics: dict[str, Metric] = {}
    gates: dict[str, Gate] = {}
    parity: Parity | None = None


class Manifest(_Strict):
    """The content of artifact.json."""

    format: Literal[1]
    name: Name
    version: Name
    service: Name
    task: str
    description: str = ""
    graphs: dict[Name, Graph] = Field(min_length=1)
    assets: dict[str, Name] = {}
    constants: dict[str, Any] = {}
    preprocessing: str = ""
    golden: _Golden
    files: dict[Name, _File]
    source: tuple[_Source, ...] = ()
    license: str
    license_note: str = ""
    training_data: str = ""
    made: Made = Made()
    quality: Quality = Quality()


def check_manifest(manifest: Manifest) -> None:
    """Check what a manifest's fields must say about each other.

    Raises:
        ArtifactError: names the field, what was expected and what was got.
    """
    for name, graph in manifest.graphs.items():
        for side, tensors in (("inputs", graph.inputs), ("outputs", graph.outputs)):
            for index, tensor in enumerate(tensors):
                where = f"{MANIFEST}: graphs.{name}.{side}[{index}]"
                if tensor.dtype not in NUMPY_TYPES:
                    known = ", ".join(NUMPY_TYPES)
                    raise ArtifactError(f"{where}.dtype: expected one of {known}, got {tensor.dtype!r}")
                if any(axis < -1 for axis in tensor.shape):
                    raise ArtifactError(f"{where}.shape: expected axes >= -1, got {list(tensor.shape)}")
                first = tensor.shape[0] if tensor.shape else None
                # A graph of fixed batch 1 may say so; more rows need an axis that can grow.
                if graph.max_batch_size > 0 and first != -1 and (graph.max_batch_size, first) != (1, 1):
                    raise ArtifactError(
                        f"{where}.shape: expected -1 as the first axis, for max_batch_size is "
                        f"{graph.max_batch_size}; got {list(tensor.shape)}; 0 means no batch axis"
                    )
            names = [tensor.name for tensor in tensors]
            if len(set(names)) != len(names):
                raise ArtifactError(f"{MANIFEST}: graphs.{name}.{side}: expected distinct names, got {names}")
        if graph.precision in graph.variants:
            raise ArtifactError(
                f"{MANIFEST}: graphs.{name}.variants: expected precisions other than its own file's, "
                f"got {graph.precision}"
            )
        _check_batching(f"{MANIFEST}: graphs.{name}.batching", graph)
    wanted = {graph.file for graph in manifest.graphs.values()} | set(manifest.assets.values()) | {GOLDEN}
    wanted |= {file for graph in manifest.graphs.values() for file in graph.variants.values()}
    _check_quality(manifest)
    if missing := sorted(wanted - manifest.files.keys()):
        raise ArtifactError(f"{MANIFEST}: files: expected a digest of every file, got none of {missing[0]!r}")


def _check_quality(manifest: Manifest) -> None:
    """Check that every gate and tolerance is of a metric that was measured, and that a gate says something."""
    quality = manifest.quality
    for field, named in (("quality.gates", quality.gates), ("made.tolerance", manifest.made.tolerance)):
        if unknown := sorted(named.keys() - quality.metrics.keys()):
            known = ", ".join(quality.metrics) or "none"
            raise ArtifactError(
                f"{MANIFEST}: {field}: expected one of the metrics {known}, got {unknown[0]!r}"
            )
    for name, gate in quality.gates.items():
        if gate.min is None and gate.max is None:
            raise ArtifactError(f"{MANIFEST}: quality.gates.{name}: expected 'min' or 'max', got neither")
    for name, metric in quality.metrics.items():
        if not metric.low <= metric.value <= metric.high:
            raise ArtifactError(
                f"{MANIFEST}: quality.metrics.{name}: expected low <= value <= high, "
                f"got {metric.low:g}, {metric.value:g}, {metric.high:g}"
            )


def _check_batching(where: str, graph: Graph) -> None:
    """Check that the tensors and axes of a graph's batching are there, and may be of any length."""
    cost, pad = graph.batching.cost, graph.batching.pad
    inputs = {tensor.name: tensor for tensor in graph.inputs}
    outputs = {tensor.name: tensor for tensor in graph.outputs}
    if cost is not None:
        for axis in cost.axes:
            _check_axis(f"{where}.cost", inputs, cost.input, axis)
        if len(set(cost.axes)) != len(cost.axes):
            raise ArtifactError(f"{where}.cost.axes: expected distinct axes, got {list(cost.axes)}")
        if graph.max_batch_size > 1 and 0 not in cost.axes:
            raise ArtifactError(f"{where}.cost.axes: expected 0, the rows, among them, got {list(cost.axes)}")
    if pad is None:
        return
    if graph.max_batch_size == 0:
        raise ArtifactError(f"{where}.pad: expected a graph with a batch axis, got max_batch_size 0")
    sides = (
        ("inputs", inputs, dict.fromkeys(pad.inputs, pad.axis)),
        ("outputs", outputs, {name: output.axis for name, output in pad.outputs.items()}),
    )
    for side, tensors, axes in sides:
        for name, axis in axes.items():
            _check_axis(f"{where}.pad.{side}", tensors, name, axis)
            if axis == 0 or tensors[name].shape[axis] != -1:
                raise ArtifactError(
                    f"{where}.pad.{side}: expected an axis of any length behind the rows in {name!r}, "
                    f"got axis {axis} of {list(tensors[name].shape)}"
                )
    if cost is not None and (cost.input not in pad.inputs or pad.axis not in cost.axes):
        raise ArtifactError(
            f"{where}.cost: expected axis {pad.axis} of one of {', '.join(pad.inputs)}, which is filled up; "
            f"got {list(cost.axes)} of {cost.input!r}"
        )


def _check_axis(where: str, tensors: dict[str, Tensor], name: str, axis: int) -> None:
    if name not in tensors:
        raise ArtifactError(f"{where}: expected one of {', '.join(tensors)}, got {name!r}")
    if not 0 <= axis < len(tensors[name].shape):
        raise ArtifactError(f"{where}: expected an axis of {name!r} {list(tensors[name].shape)}, got {axis}")
