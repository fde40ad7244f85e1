"""The sentiment model's recipe: what training changed is added to the published weights, and laid out for the graph."""

import numpy as np
import pytest

from services.nlp.models import sentiment
from shared.inference.rounding import round_weights


def test_changes_of_low_rank_are_added_and_the_last_layer_is_taken() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 4)).astype(np.float32)
    down, up = (rng.normal(size=shape).astype(np.float16) for shape in ((2, 4), (6, 2)))
    published = {"layer.weight": weight, "other.weight": weight}
    adapter = {
        "layer.down": down,
        "layer.up": up,
        "head.bias": np.ones(2, np.float32),
        "words": np.ones(3, np.float16),
    }
    merged = sentiment.merge(published, adapter)
    np.testing.assert_allclose(
        merged["layer.weight"], weight + up.astype(np.float32) @ down.astype(np.float32), rtol=1e-6
    )
    np.testing.assert_array_equal(merged["other.weight"], weight)
    assert sorted(merged) == ["head.bias", "layer.weight", "other.weight", "words"]
    assert all(value.dtype == np.float32 for value in merged.values())
    assert published["layer.weight"] is weight


@pytest.mark.parametrize("shape", [(6, 5), (5, 4), None])
def test_an_adapter_of_other_weights_is_refused(shape: tuple[int, int] | None) -> None:
    published = {"layer.weight": np.zeros(shape, np.float32)} if shape else {}
    adapter = {"layer.down": np.zeros((2, 4), np.float16), "layer.up": np.zeros((6, 2), np.float16)}
    with pytest.raises(ValueError, match=r"layer\.weight: expected shape \(6, 4\)"):
        sentiment.merge(published, adapter)


def test_rounded_weights_are_within_half_a_step_and_zeros_stay() -> None:
    values = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float32)
    values[2] = 0
    whole, scale = round_weights(values, (1,))
    assert scale.shape == (5, 1)
    assert np.abs(whole).max() == 127
    assert (np.abs(whole * scale - values) <= scale / 2 + 1e-7).all()
    assert not whole[2].any()


def test_products_are_turned_tables_are_not_and_small_tensors_stay_exact() -> None:
    product, table = np.ones((6, 4), np.float32), np.ones((9, 4), np.float32)
    tensors = sentiment.lay_out(
        {
            "encoder.layer.0.weight": product,
            "embeddings.word_embeddings.weight": table,
            sentiment.TYPES: np.array([[1, 2], [3, 4]], np.float32),
            "head.weight": np.ones((2, 4), np.float32),
            "words": np.ones(9, np.float32),
        }
    )
    shapes = {name: value.shape for name, value in tensors.items()}
    assert shapes == {
        "encoder.layer.0.weight.int8": (4, 6),
        "encoder.layer.0.weight.scale": (1, 6),
        "embeddings.word_embeddings.weight.int8": (9, 4),
        "embeddings.word_embeddings.weight.scale": (9, 1),
        "embeddings.token_type": (2,),
        "head.weight": (2, 4),
        "words": (9,),
    }
    assert tensors["embeddings.token_type"].tolist() == [1, 2]
