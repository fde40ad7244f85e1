"""Silero VAD's artifact: a whole clip in one run, where the published graph takes 32 ms at a time.

Lives here: the graph around the published layers, and the constants. Not here: turning probabilities into segments
(`services.speech.pipeline`), the reference answers (`services.speech.training.export_silero_vad`).

The published streaming graph is called once for every 512 samples, with the 64 samples before them and the state of
an LSTM. Everything before the LSTM sees one chunk only, so the chunks of a block, of all clips, go through it at once;
the LSTM walks over them, and an ONNX Loop walks over the blocks and carries its state. Upstream's "sequence" file holds
the layers in that form for one clip and ready-made chunks; cutting, blocks and many clips side by side are added here.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from shared.inference.artifact import Draft, GraphDraft, Tensor
from shared.inference.manifest import Batching, Cost, Pad, PadOutput

MEMBER = "silero_vad/data/silero_vad_16k_sequence.onnx"

SAMPLE_RATE = 16_000
CHUNK_SAMPLES = 512  # 32 ms: what one probability is about
CONTEXT_SAMPLES = 64  # heard from the chunk before
BLOCK_CHUNKS = 64  # 2 s a turn of the loop: bounds memory; 128 and 256 were no faster on a 10-minute clip
HIDDEN = 128

# Where the published graph is cut: its input, what it knows before the LSTM, and the layer after it.
_FIRST, _FEATURES = "input", "/Relu_3_output_0"
_LSTM_WEIGHTS = ("onnx::LSTM_209", "onnx::LSTM_210", "onnx::LSTM_211")
_HEAD_WEIGHTS = ("output.weight", "output.bias")


def build(members: Mapping[str, bytes]) -> Draft:
    """Make the artifact from the package's member.

    Raises:
        ValueError: the graph is not the published one.
    """
    with np.load(Path(__file__).with_name("silero_vad.golden.npz")) as stored:
        golden = {key: stored[key] for key in stored.files}
    return Draft(
        graphs={
            "model": GraphDraft(
                content=_unroll(members[MEMBER]),
                file="model.onnx",
                inputs=(Tensor("audio", "FP32", (-1, -1)),),
                outputs=(Tensor("probability", "FP32", (-1, -1)),),
                max_batch_size=16,
                # Chunk after chunk is heard, none before its time: what lies behind a clip changes nothing in it. The
                # last chunk is filled up with silence in the graph, too.
                batching=Batching(
                    cost=Cost(input="audio", axes=(0, 1)),  # samples
                    pad=Pad(
                        axis=1,
                        inputs={"audio": 0.0},
                        outputs={"probability": PadOutput(axis=1, every=CHUNK_SAMPLES)},
                    ),
                ),
            )
        },
        constants={
            "sample_rate": SAMPLE_RATE,
            "chunk_samples": CHUNK_SAMPLES,
            # The authors' defaults of get_speech_timestamps.
            "threshold": 0.5,
            "negative_threshold": 0.35,
            "min_speech_s": 0.25,
            "min_silence_s": 0.1,
            "speech_pad_s": 0.03,
            "languages": ["und"],
        },
        preprocessing="audio-16k-mono/1",
        golden=golden,
        golden_made_by="the published streaming ONNX file, untouched, one chunk a call",
        tolerance={
            "CPUExecutionProvider": {"rtol": 1e-3, "atol": 1e-5},
            "CUDAExecutionProvider": {"rtol": 1e-2, "atol": 5e-3},
        },
    )


def _unroll(content: bytes) -> bytes:
    """Take the published layers and put cutting before them and many clips around their LSTM."""
    published = onnx.load_from_string(content)
    tensors = {item.name: item for item in published.graph.initializer}
    front = _nodes_until(published.graph, _FEATURES)
    if missing := [name for name in (*_LSTM_WEIGHTS, *_HEAD_WEIGHTS) if name not in tensors]:
        raise ValueError(f"{MEMBER}: expected the tensors {missing}, got {sorted(tensors)}")
    shape = list(tensors[_LSTM_WEIGHTS[0]].dims)
    if shape != [1, 4 * HIDDEN, HIDDEN]:
        raise ValueError(f"{MEMBER}: expected LSTM weights of shape [1, 512, 128], got {shape}")

    node = helper.make_node
    cut = [
        # audio [clips, samples] -> chunks [clips, n, 512], the last one filled up with silence.
        node("Shape", ["audio"], ["cut.shape"]),
        node("Gather", ["cut.shape", "one"], ["cut.samples"], axis=0),
        node("Neg", ["cut.samples"], ["cut.negative"]),
        node("Mod", ["cut.negative", "chunk"], ["cut.fill"]),
        node("Concat", ["cut.zeros3", "cut.fill"], ["cut.pads"], axis=0),
        node("Pad", ["audio", "cut.pads"], ["cut.whole"], mode="constant"),
        node("Reshape", ["cut.whole", "cut.to_chunks"], ["chunks"]),
        # Each chunk's context is the tail of the one before; the first one's is silence.
        node("Slice", ["chunks", "cut.tail", "chunk", "two"], ["cut.tails"]),
        node("Pad", ["cut.tails", "cut.shift"], ["contexts"], mode="constant"),
        node("Shape", ["chunks"], ["cut.count"], start=1, end=2),
        node("Add", ["cut.count", "cut.block_less_one"], ["cut.rounded"]),
        node("Div", ["cut.rounded", "block"], ["cut.blocks"]),
        node("Squeeze", ["cut.blocks"], ["blocks"]),
        node("Shape", ["audio"], ["clips"], start=0, end=1),
        node("Concat", ["one", "clips", "hidden"], ["cut.state_shape"], axis=0),
        node("ConstantOfShape", ["cut.state_shape"], ["h.first"]),
        node("ConstantOfShape", ["cut.state_shape"], ["c.first"]),
        node("Concat", ["clips", "zero"], ["cut.empty_shape"], axis=0),
        node("ConstantOfShape", ["cut.empty_shape"], ["none"]),
        node("Loop", ["blocks", "", "h.first", "c.first", "none"], ["h.last", "c.last", "probability"]),
    ]
    body = [
        node("Identity", ["go"], ["go.next"]),
        node("Mul", ["index", "block"], ["start"]),
        node("Add", ["start", "block"], ["end"]),  # Slice stops at the last chunk by itself
        node("Slice", ["chunks", "start", "end", "one"], ["block.chunks"]),
        node("Slice", ["contexts", "start", "end", "one"], ["block.contexts"]),
        node("Concat", ["block.contexts", "block.chunks"], ["block.frames"], axis=2),
        node("Reshape", ["block.frames", "to_frames"], [_FIRST]),
        *front,
        # features [clips * n, 128, 1] -> [n, clips, 128], as ONNX's LSTM walks its first axis.
        node("Shape", ["block.chunks"], ["block.shape"], start=0, end=2),
        node("Concat", ["block.shape", "hidden"], ["block.to_clips"], axis=0),
        node("Reshape", [_FEATURES, "block.to_clips"], ["block.clips"]),
        node("Transpose", ["block.clips"], ["block.steps"], perm=[1, 0, 2]),
        node(
            "LSTM",
            ["block.steps", *_LSTM_WEIGHTS, "", "h", "c"],
            ["states", "h.next", "c.next"],
            hidden_size=HIDDEN,
        ),
        node("Squeeze", ["states", "one"], ["block.state"]),
        node("Relu", ["block.state"], ["block.relu"]),
        node("Transpose", ["block.relu"], ["block.channels"], perm=[1, 2, 0]),
        node("Conv", ["block.channels", *_HEAD_WEIGHTS], ["block.logits"], kernel_shape=[1]),
        node("Sigmoid", ["block.logits"], ["block.speech"]),
        node("Squeeze", ["block.speech", "one"], ["block.probability"]),
        node("Concat", ["probability.before", "block.probability"], ["probability.next"], axis=1),
    ]
    value, floats = helper.make_tensor_value_info, TensorProto.FLOAT
    state: list[str | int] = [1, "clips", HIDDEN]
    loop = helper.make_graph(
        body,
        "block",
        [
            value("index", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("h", floats, state),
            value("c", floats, state),
            value("probability.before", floats, ["clips", "done"]),
        ],
        [
            value("go.next", TensorProto.BOOL, []),
            value("h.next", floats, state),
            value("c.next", floats, state),
            value("probability.next", floats, ["clips", "done_next"]),
        ],
    )
    cut[-1].attribute.append(helper.make_attribute("body", loop))
    numbers = {
        "zero": [0],
        "one": [1],
        "two": [2],
        "chunk": [CHUNK_SAMPLES],
        "block": [BLOCK_CHUNKS],
        "hidden": [HIDDEN],
        "to_frames": [-1, CONTEXT_SAMPLES + CHUNK_SAMPLES],
        "cut.zeros3": [0, 0, 0],
        "cut.to_chunks": [0, -1, CHUNK_SAMPLES],
        "cut.tail": [CHUNK_SAMPLES - CONTEXT_SAMPLES],
        "cut.shift": [0, 1, 0, 0, -1, 0],  # one chunk of silence in front, the last chunk's tail dropped
        "cut.block_less_one": [BLOCK_CHUNKS - 1],
    }
    used = {name for item in body for name in item.input}
    weights = [tensors[name] for name in tensors if name in used]
    weights += [numpy_helper.from_array(np.array(item, np.int64), name) for name, item in numbers.items()]
    graph = helper.make_graph(
        cut,
        "silero-vad",
        [value("audio", floats, ["clips", "samples"])],
        [value("probability", floats, ["clips", "chunks"])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=published.opset_import, ir_version=published.ir_version)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _nodes_until(graph: onnx.GraphProto, output: str) -> list[NodeProto]:
    """Return the graph's nodes, in order, up to the one that makes `output`."""
    nodes: list[NodeProto] = []
    for item in graph.node:
        nodes.append(item)
        if output in item.output:
            return nodes
    raise ValueError(f"{MEMBER}: expected a node that makes {output}, got none")
