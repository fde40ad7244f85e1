"""The ladder's networks: MiniLM is MiniLM, a text's answer is its own, and what was learned can be added up."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from cli.place import models_dir
from services.nlp.training.data.tokens import pad, tokenize
from services.nlp.training.model.adapter import LowRank
from services.nlp.training.model.classifier import EmbeddingBag, MiniLmText, RecurrentText, SelfAttention
from services.nlp.training.model.minilm import VOCABULARY, MiniLm, load_minilm, pool
from services.nlp.training.model.weights import load_learned, read_learned
from services.nlp.training.model.words import fit_blend, fit_words, score_words
from services.nlp.training.sentiment_data import read_pinned
from shared.inference.safetensors import read_safetensors
from shared.settings import state_dir
from shared.training.errors import TrainingError

TEXTS = (
    "A man is playing a guitar on stage.",
    "The central bank raised interest rates by a quarter of a point, which nobody had expected before the summer.",
    "Not bad!",
)
RUNGS = {
    "bag": lambda: EmbeddingBag(500, 2),
    "rnn": lambda: RecurrentText("rnn", 500, 2),
    "lstm": lambda: RecurrentText("lstm", 500, 2),
    "attention": lambda: SelfAttention(500, 2),
    "minilm": lambda: MiniLmText(MiniLm(), 2, tuned=2, rank=2),
}


def test_our_minilm_gives_the_vectors_of_the_served_artifact(datasets: Path) -> None:
    model = load_minilm(read_safetensors(read_pinned(datasets, "model.safetensors"))).eval()
    rows = tokenize(read_pinned(datasets, "tokenizer.json"), TEXTS, 256)
    ids, mask = pad(rows, max(map(len, rows)))
    with torch.inference_mode():
        ours = torch.nn.functional.normalize(pool(model(ids, mask), mask)).numpy()
    graph = models_dir(state_dir(), "nlp") / "minilm/1/model.onnx"
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    served = session.run(["embedding"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
    # The artifact's weights are 8-bit, which moves the shortest text most, to .9978.
    assert (ours * served).sum(1).min() > 0.997


@pytest.mark.parametrize("rung", RUNGS)
def test_an_answer_depends_on_neither_neighbours_nor_filling(rung: str) -> None:
    torch.manual_seed(0)
    model = RUNGS[rung]().eval()
    rows = [torch.randint(4, 500, (length,)) for length in (5, 23, 11)]
    together = pad(rows, 30)
    with torch.inference_mode():
        answers = model(*together)
        for row, answer in zip(rows, answers, strict=True):
            torch.testing.assert_close(model(*pad([row], len(row)))[0], answer, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rung", RUNGS)
def test_a_row_of_filling_alone_has_a_finite_answer(rung: str) -> None:
    model = RUNGS[rung]().eval()
    with torch.inference_mode():
        answer = model(torch.zeros(2, 7, dtype=torch.int64), torch.zeros(2, 7, dtype=torch.int64))
    assert torch.isfinite(answer).all()


def test_changes_of_low_rank_add_up_to_the_same_answers() -> None:
    torch.manual_seed(1)
    model = MiniLmText(MiniLm(), 2, tuned=2, rank=3).eval()
    ids = torch.randint(5, 1000, (2, 9))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        before = model(ids, mask)
        changed = [layer for layer in model.modules() if isinstance(layer, LowRank)]
        assert len(changed) == 2 * 6
        for layer in changed:
            layer.up.normal_(std=0.05)
        after = model(ids, mask)
        merged = model.merged()
        torch.testing.assert_close(merged(ids, mask), after, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(before, after, atol=1e-3)
    assert not any(isinstance(layer, LowRank) for layer in merged.modules())
    assert any(isinstance(layer, LowRank) for layer in model.modules())


def test_the_upper_layers_go_on_from_the_lower_ones() -> None:
    model = MiniLmText(MiniLm(), 2, tuned=2, rank=2).eval()
    ids, mask = torch.randint(5, 1000, (2, 9)), torch.ones(2, 9, dtype=torch.int64)
    with torch.inference_mode():
        torch.testing.assert_close(model.classify(model.read_lower(ids, mask), ids, mask), model(ids, mask))


def test_what_was_learned_is_a_hundredth_of_the_weights_and_can_be_put_back() -> None:
    model = MiniLmText(MiniLm(), 2, tuned=2, rank=2)
    learned = read_learned(model)
    assert sum(value.size for name, value in learned.items() if name != "words") < 0.01 * sum(
        value.numel() for value in model.parameters()
    )
    other = MiniLmText(MiniLm(), 2, tuned=1, rank=2)
    with pytest.raises(TrainingError, match="another model"):
        load_learned(other, learned)
    learned["head.bias"] = np.array([1.0, 2.0], np.float32)
    load_learned(model, learned)
    assert model.head.bias.tolist() == [1.0, 2.0]


def test_words_are_learned_weighed_and_added() -> None:
    rng = np.random.default_rng(0)
    good, bad, rest = 7, 8, np.arange(10, 200)
    labels = torch.tensor([0, 1] * 200)
    rows = [torch.tensor([good if label else bad, *rng.choice(rest, 6)]) for label in labels.tolist()]
    words = fit_words(rows, labels.float(), VOCABULARY)
    assert words[good] > 0 > words[bad]
    assert words[good] > 3 * words[torch.from_numpy(rest)].abs().mean()
    scores = score_words(words, rows)
    assert ((scores > 0) == (labels == 1)).float().mean() > 0.99
    # A network that knows half of it: the words are worth adding.
    margins = torch.where(torch.from_numpy(rng.random(400)) < 0.7, labels * 2.0 - 1, 1 - labels * 2.0)
    blend = fit_blend(margins, scores, labels)
    assert blend.scale > 0
    assert blend.share > 0
    model = MiniLmText(MiniLm(), 2, tuned=1, rank=2).eval()
    ids, mask = torch.stack(rows[:2]), torch.ones(2, 7, dtype=torch.int64)
    with torch.inference_mode():
        before = model(ids, mask)
        model.settle(words, blend)
        after = model(ids, mask)
    torch.testing.assert_close(
        (after[:, 1] - after[:, 0]),
        blend.scale * (before[:, 1] - before[:, 0]) + blend.share * scores[:2],
        atol=1e-4,
        rtol=1e-4,
    )
