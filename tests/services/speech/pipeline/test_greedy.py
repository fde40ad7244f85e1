"""Greedy decoding over answers made by the test."""

import numpy as np
import pytest

from services.speech.pipeline.constants import RecognizerConstants
from services.speech.pipeline.greedy import GreedyDecoding, repeated_tail

CONSTANTS = RecognizerConstants(
    sample_rate=16_000,
    languages=("en",),
    bos_id=1,
    eos_id=2,
    layers=2,
    heads=2,
    head_dim=4,
    max_tokens_per_second=6.5,
    min_token_cap=6,
    repeat_max_period=8,
    repeat_min_count=4,
    repeat_min_tokens=12,
    min_samples=1_600,
    max_stretch_s=20.0,
    join_gap_s=2.0,
    context_s=0.2,
)


def begin(seconds: float = 4.0) -> GreedyDecoding:
    return GreedyDecoding(CONSTANTS, hidden=np.ones((1, 5, 8), np.float32), samples=int(seconds * 16_000))


def answer(token: int, step: int):
    """What the graph gives: logits, and keys and values that tell their step; the encoder's are empty after the first."""
    logits = np.zeros((1, 1, 100), np.float32)
    logits[0, 0, token] = 1.0
    cache = {"logits": logits}
    for layer in range(2):
        for part in ("key", "value"):
            cache[f"present.{layer}.decoder.{part}"] = np.full((1, 2, step + 1, 4), step, np.float32)
            encoder = (1, 2, 5, 4) if step == 0 else (0, 2, 1, 4)
            cache[f"present.{layer}.encoder.{part}"] = np.full(encoder, 7.0, np.float32)
    return cache


def run(decoding: GreedyDecoding, tokens: list[int]) -> int:
    """Feeds tokens until it has enough; returns the steps it took."""
    for step, token in enumerate(tokens):
        if decoding.finished:
            return step
        decoding.take(answer(token, step))
    return len(tokens)


def test_first_step_has_an_empty_past():
    inputs = begin().inputs()
    assert inputs["input_ids"].tolist() == [[1]]
    assert inputs["use_cache_branch"].tolist() == [False]
    assert inputs["encoder_attention_mask"].shape == (1, 64_000)
    past = [tensor for name, tensor in inputs.items() if name.startswith("past_")]
    assert len(past) == 8
    assert all(tensor.shape == (1, 2, 0, 4) for tensor in past)


def test_later_steps_take_the_newest_decoder_and_the_first_encoder_cache():
    decoding = begin()
    run(decoding, [10, 11, 12])
    inputs = decoding.inputs()
    assert inputs["input_ids"].tolist() == [[12]]
    assert inputs["use_cache_branch"].tolist() == [True]
    assert inputs["past_key_values.1.decoder.key"].shape == (1, 2, 3, 4)
    assert inputs["past_key_values.1.encoder.value"].shape == (1, 2, 5, 4)


def test_ends_at_the_mark():
    decoding = begin()
    assert run(decoding, [10, 11, 2, 12]) == 3
    assert list(decoding.tokens) == [10, 11]
    assert not decoding.stopped_early


@pytest.mark.parametrize(("seconds", "cap"), [(0.1, 6), (4.0, 26), (20.0, 130)])
def test_more_than_anybody_says_in_that_time_is_stopped(seconds, cap):
    decoding = begin(seconds)
    assert run(decoding, list(range(10, 99)) * 4) == cap
    assert decoding.stopped_early
    assert len(decoding.tokens) == cap


def test_ending_just_within_the_cap_is_no_early_stop():
    decoding = begin(0.1)
    assert run(decoding, [10, 11, 12, 13, 14, 2]) == 6
    assert not decoding.stopped_early


@pytest.mark.parametrize("period", [1, 2, 3, 5, 8])
def test_going_in_circles_is_stopped_and_said_once(period):
    decoding = begin(20.0)
    phrase = list(range(20, 20 + period))
    run(decoding, [10, 11, *phrase * 40])
    assert decoding.stopped_early
    assert list(decoding.tokens) == [10, 11, *phrase]


@pytest.mark.parametrize("tokens", [[5] * 8, [5] * 11, [1, 2, 3] * 3, list(range(9)) * 4, []])
def test_repetition_that_people_use_is_left_alone(tokens):
    assert repeated_tail(tokens, CONSTANTS) == 0


def test_repeated_tail_counts_all_but_the_first():
    assert repeated_tail([9, 9, *[5, 6] * 6], CONSTANTS) == 10
