"""Spans of speech out of probabilities, stretches out of spans."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.speech.pipeline.segmentation import Span, SpeechRule, StretchRule, speech_spans, stretches

RULE = SpeechRule(
    threshold=0.5, negative_threshold=0.35, min_speech=4_000, min_silence=1_600, pad=480, chunk=512
)
STRETCH = StretchRule(longest=20 * 16_000, join_gap=2 * 16_000, context=3_200, shortest=1_600, chunk=512)


def chunks(*parts: tuple[float, int]):
    """Probabilities: value, how often."""
    return np.concatenate([np.full(count, value, np.float32) for value, count in parts])


def find(probability, length=None, rule=RULE):
    return speech_spans(probability, len(probability) * 512 if length is None else length, rule)


def test_silence_has_no_speech():
    assert find(chunks((0.01, 100))) == []


def test_speech_is_padded_on_both_sides():
    assert find(chunks((0.0, 10), (0.9, 20), (0.0, 10))) == [Span(10 * 512 - 480, 30 * 512 + 480)]


def test_speech_up_to_both_ends_stays_within_the_clip():
    assert find(chunks((0.9, 20)), length=20 * 512 - 100) == [Span(0, 20 * 512 - 100)]


def test_short_noises_are_dropped():
    # 7 chunks are 0.22 s, 8 are 0.26 s; the least is 0.25 s.
    assert find(chunks((0.0, 10), (0.9, 7), (0.0, 10))) == []
    assert len(find(chunks((0.0, 10), (0.9, 8), (0.0, 10)))) == 1


def test_short_pauses_do_not_end_speech():
    # A pause ends it once a quiet chunk begins 0.1 s after the first quiet one: at the fifth.
    assert len(find(chunks((0.9, 10), (0.0, 4), (0.9, 10)))) == 1
    assert len(find(chunks((0.9, 10), (0.0, 5), (0.9, 10)))) == 2


def test_between_the_thresholds_speech_goes_on():
    assert len(find(chunks((0.9, 10), (0.4, 50), (0.9, 10)))) == 1
    assert find(chunks((0.4, 100))) == []


def test_neighbours_share_a_short_gap():
    rule = SpeechRule(**{**RULE.__dict__, "pad": 5_000})
    first, second = find(chunks((0.9, 10), (0.0, 10), (0.9, 10)), rule=rule)
    assert first.end == second.start == 15 * 512


def test_pauses_are_kept_inside_a_stretch():
    spans = [Span(16_000, 32_000), Span(60_000, 80_000), Span(200_000, 220_000)]
    probability = np.ones(600, np.float32)
    assert stretches(spans, probability, length=300_000, rule=STRETCH) == [
        Span(16_000 - 3_200, 80_000 + 3_200),
        Span(200_000 - 3_200, 220_000 + 3_200),
    ]


def test_joining_stops_before_a_stretch_gets_too_long():
    spans = [Span(index * 96_000, index * 96_000 + 80_000) for index in range(10)]
    found = stretches(spans, np.ones(2_000, np.float32), length=960_000, rule=STRETCH)
    assert len(found) == 4
    assert max(span.length for span in found) <= STRETCH.longest


def test_long_speech_is_cut_where_it_is_quietest():
    probability = np.ones(1_250, np.float32)  # 40 s
    probability[550] = 0.6
    first, second, third = stretches([Span(0, 640_000)], probability, length=640_000, rule=STRETCH)
    assert first == Span(0, 550 * 512 + 256)
    assert second.start == first.end
    assert third.end == 640_000


def test_what_is_too_short_for_a_word_is_left_out():
    assert stretches([Span(0, 700)], np.ones(2, np.float32), length=800, rule=STRETCH) == []


@given(
    values=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=400),
    repeat=st.integers(1, 12),
    missing=st.integers(0, 511),
    threshold=st.floats(0.02, 0.98),
)
def test_any_probabilities_give_ordered_spans_within_the_clip(values, repeat, missing, threshold):
    probability = np.repeat(np.array(values, np.float32), repeat)
    length = len(probability) * 512 - missing
    rule = SpeechRule(
        **{**RULE.__dict__, "threshold": threshold, "negative_threshold": max(threshold - 0.15, 0.01)}
    )
    spans = speech_spans(probability, length, rule)
    found = stretches(spans, probability, length=length, rule=STRETCH)
    for ordered in (spans, found):
        for before, after in zip([Span(0, 0), *ordered], [*ordered, Span(length, length)], strict=True):
            assert before.end <= after.start
            assert after.length >= 0
    assert all(span.length <= STRETCH.longest for span in found)


@pytest.mark.parametrize("seconds", [20, 21, 40, 61, 600])
def test_nothing_is_lost_where_speech_is_cut(seconds):
    length = seconds * 16_000
    probability = np.random.default_rng(seconds).uniform(0.6, 1.0, -(-length // 512)).astype(np.float32)
    found = stretches([Span(0, length)], probability, length=length, rule=STRETCH)
    assert found[0].start == 0
    assert found[-1].end == length
    assert all(before.end == after.start for before, after in itertools.pairwise(found))
