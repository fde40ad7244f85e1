"""The recipes against the real packages: every graph loads, matches its reference, and keeps batch-mates apart."""

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from services.vision.models import centernet, efficientnet, pp_ocr
from shared.inference.artifact import Draft

MODELS = Path(efficientnet.__file__).parent
RECIPES = {
    "efficientnet-lite0": "services.vision.models.efficientnet",
    "centernet": "services.vision.models.centernet",
    "centerface": "services.vision.models.centerface",
    "pp-ocr": "services.vision.models.pp_ocr",
}
GRAPHS = [
    ("efficientnet-lite0", "model"),
    ("centernet", "model"),
    ("centerface", "model"),
    ("pp-ocr", "detect"),
    ("pp-ocr", "orient"),
    ("pp-ocr", "recognize"),
]
Members = Callable[[str, str], Mapping[str, bytes]]
NUMPY = {"FP32": "tensor(float)", "INT64": "tensor(int64)"}


@pytest.fixture(scope="module")
def draft(members: Members) -> Callable[[str], Draft]:
    """Builds a model's draft, each once."""
    made: dict[str, Draft] = {}

    def build(model: str) -> Draft:
        if model not in made:
            made[model] = importlib.import_module(RECIPES[model]).build(members("vision", model))
        return made[model]

    return build


@pytest.fixture(scope="module")
def session(draft: Callable[[str], Draft]) -> Callable[[str, str], onnxruntime.InferenceSession]:
    """Opens a graph, each once."""
    opened: dict[tuple[str, str], onnxruntime.InferenceSession] = {}

    def open_graph(model: str, graph: str) -> onnxruntime.InferenceSession:
        if (model, graph) not in opened:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 2
            opened[model, graph] = onnxruntime.InferenceSession(
                draft(model).graphs[graph].content, options, providers=["CPUExecutionProvider"]
            )
        return opened[model, graph]

    return open_graph


@pytest.mark.parametrize(("model", "graph"), GRAPHS)
def test_the_graph_is_what_the_signature_says(draft, session, model: str, graph: str) -> None:
    declared, opened = draft(model).graphs[graph], session(model, graph)
    for ports, found in ((declared.inputs, opened.get_inputs()), (declared.outputs, opened.get_outputs())):
        assert [(port.name, NUMPY[port.dtype]) for port in ports] == [
            (item.name, item.type) for item in found
        ]
        for port, item in zip(ports, found, strict=True):
            assert [axis if isinstance(axis, int) else -1 for axis in item.shape] == list(port.shape)


@pytest.mark.parametrize(("model", "graph"), GRAPHS)
def test_the_reference_is_reproduced(draft, session, model: str, graph: str) -> None:
    made = draft(model)
    prefix = f"{graph}/in/"
    inputs = {key.removeprefix(prefix): value for key, value in made.golden.items() if key.startswith(prefix)}
    names = [port.name for port in made.graphs[graph].outputs]
    for name, got in zip(names, session(model, graph).run(names, inputs), strict=True):
        expected = made.golden[f"{graph}/out/{name}"]
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, **made.tolerance["CPUExecutionProvider"], err_msg=name)


@pytest.mark.parametrize(("model", "graph"), GRAPHS)
def test_a_batch_mate_changes_nothing(draft, session, model: str, graph: str) -> None:
    image = draft(model).golden[f"{graph}/in/image"][:1]
    opened = session(model, graph)
    alone = opened.run(None, {"image": image})
    loud = np.concatenate([image[:, ::-1] * np.float32(0.5), image])
    for single, pair in zip(alone, opened.run(None, {"image": np.ascontiguousarray(loud)}), strict=True):
        np.testing.assert_allclose(pair[1:], single, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("model", RECIPES)
def test_the_same_members_give_the_same_bytes(draft, members: Members, model: str) -> None:
    again = importlib.import_module(RECIPES[model]).build(members("vision", model))
    for name, graph in draft(model).graphs.items():
        assert graph.content == again.graphs[name].content
    assert dict(draft(model).assets) == dict(again.assets)
    json.dumps(draft(model).constants)


@pytest.mark.parametrize("model", RECIPES)
def test_damaged_members_are_named(members: Members, model: str) -> None:
    build = importlib.import_module(RECIPES[model]).build
    whole = dict(members("vision", model))
    for name, content in whole.items():
        with pytest.raises(ValueError, match=r"\w"):
            build(whole | {name: content[: len(content) // 2]})
        with pytest.raises(KeyError, match=name.rsplit("/", 1)[-1]):
            build({key: value for key, value in whole.items() if key != name})


def test_the_cat_is_a_cat(draft, session) -> None:
    made = draft("efficientnet-lite0")
    labels = made.assets["labels"][1].decode().splitlines()
    logits = session("efficientnet-lite0", "model").run(["logits"], {"image": made.golden["model/in/image"]})[
        0
    ][0]
    best = [labels[index] for index in np.argsort(-logits)[:3]]
    assert best[0] == "Egyptian cat"
    assert all("cat" in label for label in best)


def test_the_person_is_found_once_per_score(draft, session) -> None:
    made = draft("centernet")
    labels = made.assets["labels"][1].decode().splitlines()
    rows = session("centernet", "model").run(None, {"image": made.golden["model/in/image"]})[0][0]
    clear = rows[rows[:, 4] >= made.constants["score_threshold"]]
    assert {labels[int(row[5])] for row in clear} == {"person"}
    assert (np.diff(rows[:, 4]) <= 0).all()
    floor = rows[:, 4] >= centernet.SCORE_FLOOR
    assert not rows[~floor].any()
    assert (rows[floor, 2:4] > rows[floor, :2]).all()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (160, 32)])
def test_faces_come_in_any_size_of_whole_strides(session, height: int, width: int) -> None:
    image = np.zeros((2, 3, height, width), np.float32)
    for output in session("centerface", "model").run(None, {"image": image}):
        assert output.shape[0] == 2
        assert output.shape[2:] == (height // 4, width // 4)


def test_printed_lines_are_read(draft, session) -> None:
    made = draft("pp-ocr")
    characters = json.loads(made.assets["characters"][1])
    assert len(characters) == pp_ocr.CLASSES
    assert (characters[0], characters[-1]) == ("", " ")
    indices, scores = session("pp-ocr", "recognize").run(
        ["indices", "scores"], {"image": made.golden["recognize/in/image"]}
    )
    kept = np.insert(indices[:, 1:] != indices[:, :-1], 0, True, axis=1) & (indices != 0)
    texts = [
        "".join(characters[index] for index in row[mask]) for row, mask in zip(indices, kept, strict=True)
    ]
    assert [text.strip() for text in texts] == ["Sensorium 2026", "vision, language, speech"]
    assert scores.min() > 0.5
    probabilities = session("pp-ocr", "orient").run(None, {"image": made.golden["orient/in/image"]})[0]
    assert probabilities[0, 0] > 0.9
    assert probabilities[1, 1] > made.constants["orient"]["threshold"]


@pytest.mark.parametrize("width", [320, 384, 512])
def test_a_reading_step_is_eight_pixels(session, width: int) -> None:
    image = np.zeros((1, 3, pp_ocr.LINE_HEIGHT, width), np.float32)
    indices, scores = session("pp-ocr", "recognize").run(["indices", "scores"], {"image": image})
    assert indices.shape == scores.shape == (1, width // 8)


def test_what_is_committed_is_small() -> None:
    sizes = {path.name: path.stat().st_size for path in MODELS.iterdir() if path.suffix in {".onnx", ".npz"}}
    assert sizes
    assert max(sizes.values()) <= 300_000, sizes
