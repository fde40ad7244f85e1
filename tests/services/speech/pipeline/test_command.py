"""From clips to the windows of a command or sound classifier."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.speech.pipeline.command import is_silent, place, to_8k, trim, windows
from tests.services.speech.sound import tone

RATE = 8_000


def rms(samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def test_to_telephone_rate():
    assert len(to_8k(tone(1.0, 16_000), 16_000)) == RATE
    same = tone(0.5, RATE)
    middle = slice(400, -400)
    assert np.allclose(to_8k(same, RATE)[middle], same[middle], atol=2e-3)
    assert [len(to_8k(np.ones(length, np.float32), RATE)) for length in (1, 2, 3)] == [1, 2, 3]
    assert len(to_8k(np.zeros(0, np.float32), RATE)) == 0


@pytest.mark.parametrize("offset", [0.05, -0.3])
def test_an_offset_and_hum_are_taken_off(offset):
    word = np.concatenate([np.zeros(2_000, np.float32), tone(0.4, RATE), np.zeros(2_000, np.float32)])
    time = np.arange(len(word)) / RATE
    hum = 0.2 * np.sin(2 * np.pi * 25 * time)
    cleaned = to_8k((word + offset + hum).astype(np.float32), RATE)
    assert rms(cleaned[200:1_600]) < 0.01
    # So that the silence around is found again.
    assert 3_200 <= len(trim(cleaned)) <= 3_200 + 2 * 240 + 400


def test_silence():
    assert is_silent(np.zeros(RATE, np.float32))
    assert is_silent(np.zeros(0, np.float32))
    # Rounding noise of 16 bits is no sound, a quiet room is.
    noise = np.random.default_rng(0).standard_normal(RATE)
    assert is_silent((noise * 1e-5).astype(np.float32))
    assert not is_silent((noise * 1e-3).astype(np.float32))
    # However short.
    click = np.zeros(RATE, np.float32)
    click[4_000:4_040] = 0.5
    assert not is_silent(click)


def test_trimming_keeps_the_sound_and_30_ms_around():
    samples = np.concatenate([np.zeros(4_000, np.float32), tone(0.5, RATE), np.zeros(6_000, np.float32)])
    cut = trim(samples)
    assert 4_000 <= len(cut) <= 4_000 + 2 * 240 + 2 * 80
    assert rms(cut) * len(cut) ** 0.5 == pytest.approx(rms(samples) * len(samples) ** 0.5, rel=1e-4)


def test_trimming_leaves_noise_alone():
    noise = (0.01 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    assert len(trim(noise)) == RATE


def test_trimming_keeps_the_quiet_end_of_a_word():
    word = np.concatenate([tone(0.3, RATE), tone(0.2, RATE, peak=0.01), np.zeros(RATE, np.float32)])
    assert len(trim(word)) >= 4_000


@pytest.mark.parametrize("length", [1, 79, 80, 81, 160])
def test_trimming_short_clips(length):
    assert 1 <= len(trim(np.ones(length, np.float32))) <= length


def test_a_short_clip_stands_in_the_middle_at_its_level():
    placed = place(tone(0.5, RATE), 12_000, 0.1)
    assert placed.shape == (12_000,)
    assert not placed[:4_000].any()
    assert not placed[8_000:].any()
    assert rms(placed[4_000:8_000]) == pytest.approx(0.1, rel=1e-4)


def test_of_a_long_clip_the_loudest_part():
    samples = np.concatenate([tone(2.0, RATE, peak=0.01), tone(1.5, RATE), tone(2.0, RATE, peak=0.01)])
    placed = place(samples, 12_000, 0.1)
    assert rms(placed) == pytest.approx(0.1, rel=1e-4)
    assert rms(placed[:80]) == pytest.approx(rms(placed[-80:]), rel=0.1)


def test_loudness_does_not_matter():
    loud, quiet = tone(0.5, RATE, peak=0.9), tone(0.5, RATE, peak=0.009)
    assert np.allclose(place(loud, 12_000, 0.1), place(quiet, 12_000, 0.1), atol=1e-5)


def test_windows_cover_the_clip_and_end_with_it():
    samples = np.concatenate([tone(2.0, RATE), tone(0.7, RATE, hz=900)])
    found = windows(samples, 12_000, 6_000, 0.1)
    assert len(found) == 3
    assert {len(window) for window in found} == {12_000}
    assert all(rms(window) == pytest.approx(0.1, rel=1e-3) for window in found)
    assert np.allclose(found[-1] / rms(found[-1]), samples[-12_000:] / rms(samples[-12_000:]), atol=1e-4)


def test_pauses_are_no_windows():
    pause = np.full(3 * 12_000, 1e-6, np.float32)
    found = windows(np.concatenate([tone(1.5, RATE), pause, tone(1.5, RATE)]), 12_000, 12_000, 0.1)
    assert len(found) == 2


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40_000), st.integers(0, 2**32 - 1))
def test_any_clip_becomes_finite_windows(length, seed):
    samples = (0.2 * np.random.default_rng(seed).standard_normal(length)).astype(np.float32)
    placed = place(trim(samples), 12_000, 0.1)
    assert placed.shape == (12_000,)
    assert np.isfinite(placed).all()
    found = windows(samples, 12_000, 6_000, 0.1)
    assert 1 <= len(found) <= 1 + -(-length // 6_000)
    assert all(window.shape == (12_000,) and np.isfinite(window).all() for window in found)
