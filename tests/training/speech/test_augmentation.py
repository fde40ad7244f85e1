"""Changes to samples and energies: what each does, and that the generator alone decides."""

import numpy as np
import pytest
import torch

from services.speech.training.augmentation import spectrum, waveform
from services.speech.training.augmentation.recipe import CommandAugmentation, SoundAugmentation, cut
from services.speech.training.data.noises import coloured
from shared.training.randomness import item_rng, item_uniforms

RATE = 8_000


def tone(hz: float, seconds: float = 0.5):
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def loudest_hz(samples) -> float:
    return float(np.fft.rfftfreq(len(samples), 1 / RATE)[np.abs(np.fft.rfft(samples)).argmax()])


def test_faster_is_shorter_and_higher():
    fast = waveform.change_speed(tone(500), 1.25)
    assert len(fast) == pytest.approx(4_000 / 1.25, abs=2)
    assert loudest_hz(fast) == pytest.approx(625, abs=3)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 25.0])
def test_noise_has_the_asked_distance(snr_db):
    clean = tone(440)
    noise = coloured(len(clean), -1.0, np.random.default_rng(1))
    added = waveform.add_noise(clean, noise, snr_db) - clean
    assert 20 * np.log10(waveform.rms(clean) / waveform.rms(added)) == pytest.approx(snr_db, abs=0.01)
    assert np.array_equal(waveform.add_noise(clean, np.zeros_like(clean), snr_db), clean)


def test_a_room_rings_on_and_keeps_the_direct_sound():
    click = np.zeros(RATE, np.float32)
    click[100] = 1.0
    heard = waveform.reverberate(click, np.random.default_rng(0), decay_s=0.4, direct_db=6.0)
    assert len(heard) == len(click)
    assert heard[100] == pytest.approx(1.0, abs=1e-4)
    assert not heard[:100].any() or np.abs(heard[:100]).max() < 1e-5
    tail = np.square(heard[101:]).sum()
    assert 10 * np.log10(1 / tail) == pytest.approx(6.0, abs=0.1)
    # Decays: the second half holds next to nothing.
    assert np.square(heard[100 + 1_600 :]).sum() < 0.02 * tail


def test_a_telephone_takes_the_lowest_and_highest_away():
    rng = np.random.default_rng(0)
    kept, low, high = (waveform.rms(waveform.telephone(tone(hz), rng)) for hz in (1_000, 60, 3_950))
    assert kept == pytest.approx(waveform.rms(tone(1_000)), rel=0.1)
    assert low < 0.1 * kept
    assert high < 0.3 * kept


def test_a_mobile_telephone_keeps_length_and_tone():
    sent = waveform.mobile(tone(700))
    assert len(sent) == len(tone(700))
    assert loudest_hz(sent) == pytest.approx(700, abs=5)
    assert waveform.rms(sent) == pytest.approx(waveform.rms(tone(700)), rel=0.2)
    assert not np.array_equal(sent, tone(700))


def test_a_colour_changes_balance_not_content():
    changed = waveform.tilt(tone(500) + tone(2_000), np.random.default_rng(2))
    power = np.abs(np.fft.rfft(changed))
    hz = np.fft.rfftfreq(len(changed), 1 / RATE)
    assert {round(float(at)) for at in hz[power > 0.1 * power.max()]} <= {500, 2_000}


@pytest.mark.parametrize("kind", [CommandAugmentation, SoundAugmentation])
def test_the_item_decides_alone(kind):
    augment = kind(12_000, 0.1)
    one, again, other = (augment(tone(700), item_rng(0, 1, index)) for index in (5, 5, 6))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert one.shape == (12_000,)
    assert one.dtype == np.float32
    assert np.isfinite(one).all()


def test_cutting_short_clips():
    rng = np.random.default_rng(0)
    assert len(cut(tone(500), 10_000, rng)) == 10_000
    placed = cut(np.ones(100, np.float32), 10_000, rng, repeat=False)
    assert placed.sum() == 100


def test_masks_and_warping_are_by_row():
    features = torch.randn(4, 40, 99, generator=torch.Generator().manual_seed(0))
    draws = torch.from_numpy(item_uniforms(0, 1, [7, 8, 9, 10], spectrum.DRAWS).astype(np.float32))
    whole = spectrum.alter(features, draws)
    # Whatever stands beside a row, it becomes the same.
    assert torch.equal(whole[2:3], spectrum.alter(features[2:3], draws[2:3]))
    assert not torch.equal(whole, features)
    # Nothing is moved where the draw says the middle, and empty masks hide nothing.
    still = torch.full((4, spectrum.DRAWS), 0.5)
    still[:, [2, 4]] = 0.0
    assert torch.allclose(spectrum.alter(features, still), features)


def test_warping_moves_a_peak_up():
    features = torch.zeros(1, 40, 10)
    features[0, 20] = 1.0
    draws = torch.zeros(1, spectrum.DRAWS)
    draws[0, 0] = 0.0  # the factor 1 - warp: bands are read further down
    draws[0, 5] = 0.5
    moved = spectrum.alter(features, draws)
    assert int(moved[0, :, 0].argmax()) == round(20 / (1 - 0.12))


def test_a_slower_pace_widens_the_middle():
    features = torch.zeros(1, 4, 99)
    features[0, :, 45:54] = 1.0
    draws = torch.full((1, spectrum.DRAWS), 0.5)
    draws[0, [2, 4]] = 0.0
    draws[0, 5] = 0.0
    slower = spectrum.alter(features, draws, tempo=np.log(2.0))
    assert float(slower[0, 0].sum()) == pytest.approx(18, abs=1.5)
    assert float(slower[0, 0, 49]) == 1.0
    draws[0, 5] = 1.0
    assert float(spectrum.alter(features, draws, tempo=np.log(2.0))[0, 0].sum()) == pytest.approx(
        4.5, abs=1.0
    )
