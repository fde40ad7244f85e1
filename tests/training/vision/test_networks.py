"""The networks: their shapes, what they become as ONNX, and the backbone against the artifact that serves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from services.vision.models.efficientnet import WEIGHTS
from services.vision.training.model.cnn import Cnn
from services.vision.training.model.efficientnet import EfficientNet, read_weights
from services.vision.training.model.residual import ResidualCnn
from shared.settings import state_dir
from shared.training.errors import DataError
from shared.training.export import to_onnx
from shared.training.parity import check_parity


def settle(model: nn.Module) -> nn.Module:
    """Weights and statistics that are not their first values, so that nothing is left out unseen."""
    generator = torch.Generator().manual_seed(0)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.data.add_(0.1 * torch.rand(tensor.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize(
    ("make", "shape", "weights"),
    [
        (lambda: Cnn(1, 10), (1, 28, 28), 72_666),
        (lambda: Cnn(3, 4, width=8, stages=2), (3, 32, 32), None),
        (lambda: ResidualCnn(3, 10, blocks=3), (3, 32, 32), 272_474),
        (lambda: ResidualCnn(1, 10, width=8, blocks=1), (1, 27, 27), None),
    ],
    ids=["cnn", "small cnn", "resnet-20", "odd sides"],
)
def test_small_networks_and_their_graphs(
    make: Callable[[], nn.Module], shape: tuple[int, ...], weights: int | None
) -> None:
    model = settle(make())
    if weights is not None:
        assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(weights, rel=0.02)
    graph = to_onnx(model, {"image": torch.rand(2, *shape)}, ["logits"], {"image": {0: "batch"}})
    rng = np.random.default_rng(0)
    batches = ({"image": rng.random((size, *shape), np.float32)} for size in (1, 3, 16))
    check_parity(model, graph, batches, at_least=20)


@pytest.fixture(scope="module")
def tensors(datasets: Path) -> dict[str, np.ndarray]:
    return read_weights(datasets / "efficientnet" / WEIGHTS)


def test_the_backbone_answers_as_the_served_artifact(tensors: dict[str, np.ndarray]) -> None:
    model = EfficientNet.pretrained(tensors).eval()
    served = onnxruntime.InferenceSession(
        state_dir() / "models" / "vision" / "efficientnet-lite0" / "1" / "model.onnx",
        providers=["CPUExecutionProvider"],
    )
    images = np.random.default_rng(0).normal(0, 0.6, (3, 3, 224, 224)).astype(np.float32)
    logits, embedding = served.run(["logits", "embedding"], {"image": images})
    with torch.no_grad():
        pooled = model.embed(torch.from_numpy(images))
        assert np.abs(model(torch.from_numpy(images)).numpy() - logits).max() < 1e-4
    assert np.abs(pooled.numpy() - embedding).max() < 1e-4


def test_a_new_last_layer_says_at_first_the_same_to_every_picture(tensors: dict[str, np.ndarray]) -> None:
    model = EfficientNet.pretrained(tensors, classes=4).eval()
    with torch.no_grad():
        logits = model(torch.rand(2, 3, 64, 64))
    assert logits.shape == (2, 4)
    assert logits.abs().max() == 0


def test_unfreezing_from_the_end(tensors: dict[str, np.ndarray]) -> None:
    model = EfficientNet.pretrained(tensors, classes=3)
    counts = []
    for blocks in (0, 1, 16):
        model.unfreeze(blocks)
        counts.append(sum(p.numel() for p in model.parameters() if p.requires_grad))
    assert counts[0] == 3 * 1280 + 3
    assert counts[0] < counts[1] < counts[2] == sum(p.numel() for p in model.parameters())
    with pytest.raises(ValueError, match="0 to 16, got 17"):
        model.unfreeze(17)
    model.unfreeze(2)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.rand(4, 3, 64, 64)).sum().backward()
    after = model.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    # Statistics move where the normalisation learns, and nowhere else.
    assert moved
    assert all(name.startswith(("_blocks.14.", "_blocks.15.", "_bn1.")) for name in moved)
    assert all(
        p.grad is None
        for name, p in model.named_parameters()
        if name.startswith(("_conv_stem", "_blocks.0."))
    )


def test_a_frozen_backbone_gives_features_without_learning(tensors: dict[str, np.ndarray]) -> None:
    model = EfficientNet.pretrained(tensors, classes=3)
    model.unfreeze(4)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.classify_frozen(torch.rand(4, 3, 64, 64)).sum().backward()
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {"_fc.weight", "_fc.bias"}


def test_wrong_weights_are_refused(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    lacking = {name: value for name, value in tensors.items() if name != "_conv_head.weight"}
    with pytest.raises(ValueError, match=r"_conv_head\.weight"):
        EfficientNet.pretrained(lacking)
    path = tmp_path / "weights.pth"
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="sensorium data pull efficientnet"):
        read_weights(path)
