"""Windows of a voice, and one vector out of many."""

import numpy as np
import pytest

from services.speech.pipeline.constants import VoiceConstants
from services.speech.pipeline.segmentation import Span
from services.speech.pipeline.voice import keep_speech, mean_vector, partials

CONSTANTS = VoiceConstants(
    sample_rate=16_000,
    partial_samples=25_840,
    context_samples=200,
    hop_samples=160,
    partial_frames=160,
    frame_step=77,
    min_coverage=0.75,
    target_dbfs=-30.0,
)


def loud(samples: int):
    return np.random.default_rng(samples).uniform(-0.9, 0.9, samples).astype(np.float32)


@pytest.mark.parametrize(
    ("samples", "windows"),
    # A window is 25,600 samples, the next one starts 12,320 later and needs 3/4 of its own: 19,200.
    [(1, 1), (25_600, 1), (12_320 + 19_199, 1), (12_320 + 19_200, 2), (160_000, 12), (9_600_000, 778)],
)
def test_number_of_windows(samples, windows):
    found = partials(loud(samples), CONSTANTS)
    assert len(found) == windows
    assert all(window.shape == (25_840,) for window in found)


def test_windows_hold_their_context():
    samples = loud(60_000)
    found = partials(samples, CONSTANTS)
    assert not found[0][:200].any()
    np.testing.assert_array_equal(found[0][200:], samples[:25_640])
    np.testing.assert_array_equal(found[1], samples[12_320 - 200 : 12_320 + 25_640])


def test_quiet_speech_is_made_louder_and_loud_left_alone():
    quiet = loud(25_600) * np.float32(1e-4)
    window = partials(quiet, CONSTANTS)[0][200:25_800]
    assert 20 * np.log10(np.sqrt(np.mean(window**2))) == pytest.approx(-30.0, abs=0.1)
    assert np.abs(partials(loud(25_600), CONSTANTS)[0]).max() == np.abs(loud(25_600)).max()
    assert np.isfinite(partials(np.zeros(1_000, np.float32), CONSTANTS)[0]).all()


def test_only_speech_is_kept():
    samples = np.arange(100, dtype=np.float32)
    assert keep_speech(samples, [Span(0, 3), Span(50, 52)]).tolist() == [0, 1, 2, 50, 51]


def test_mean_vector_has_unit_length():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    np.testing.assert_allclose(mean_vector(vectors), [0.7071068, 0.7071068], atol=1e-6)
