"""The recordings as they come in their packages."""

from collections import Counter

import numpy as np
import pytest

from services.speech.training import words
from services.speech.training.data import asterisk, klettres, pocketsphinx
from services.speech.training.data.clips import voices_of
from services.speech.training.data.music import read_music
from services.speech.training.data.noises import COLOURS, coloured, read_desktop, synthesise
from shared.training.errors import DataError


@pytest.fixture(scope="module")
def recorded(datasets):
    return asterisk.read_commands(datasets)


def test_ten_digits_of_every_voice_in_every_language_of_its(recorded):
    count = Counter(
        (clip.voice, clip.label.partition(":")[0]) for clip in recorded if clip.label[-1].isdigit()
    )
    spoken = {
        "allison en",
        "allison es",
        "colombia es",
        "june fr",
        "armelle fr",
        "carlo it",
        "menardi it",
        "ivrvoice ru",
    }
    assert {f"{voice} {language}" for voice, language in count} == spoken
    assert set(count.values()) == {10}
    assert {clip.label for clip in recorded} == set(words.labels()) - {words.UNKNOWN}


def test_the_russian_voice_says_english_letters(recorded):
    said = {clip.label for clip in recorded if clip.voice == "ivrvoice" and not clip.label[-1].isdigit()}
    assert said == {f"en:{letter}" for letter in words.LATIN}


def test_clips_are_sound_of_the_right_length(recorded):
    assert all(0.1 * 8_000 < len(clip.samples) < 4 * 8_000 for clip in recorded)
    assert all(np.abs(clip.samples).max() > 0.01 for clip in recorded)


def test_a_voice_that_may_not_be_trained_on(recorded):
    assert not any(package.trained for package in asterisk.PACKAGES if package.voice == "colombia")
    assert "colombia" in voices_of(recorded)


def test_other_words_are_no_commands(datasets):
    package = next(package for package in asterisk.PACKAGES if package.name == "asterisk-fr-armelle")
    clips = asterisk.read_other(datasets, [package])
    assert len(clips) > 50
    assert {clip.label for clip in clips} == {words.UNKNOWN}
    assert not any(clip.name.startswith(("digits/", "letters/")) for clip in clips)


def test_missing_and_empty_packages(tmp_path):
    with pytest.raises(DataError, match="sensorium data pull asterisk-en"):
        asterisk.read_commands(tmp_path)
    (tmp_path / "asterisk-en").mkdir()
    with pytest.raises(DataError, match="got nothing"):
        asterisk.read_commands(tmp_path, asterisk.PACKAGES[:1])


def test_letters_of_other_voices(datasets):
    clips = klettres.read_letters(datasets)
    assert {clip.voice for clip in clips} == {
        f"klettres-{name}" for name in ("en", "en_GB", "es", "fr", "it")
    }
    assert Counter(clip.voice for clip in clips)["klettres-fr"] == 26


def test_digits_of_the_cards(datasets):
    assert [clip.label for clip in pocketsphinx.read_digits(datasets)] == ["en:4", "en:5", "en:5"]


def test_music_and_sounds(datasets):
    music = read_music(datasets)
    assert len(voices_of(music)) == 5
    assert all(len(clip.samples) > 60 * 8_000 for clip in music)
    desktop = read_desktop(datasets)
    assert len(voices_of(desktop)) == len(desktop) >= 18
    # Those are spoken.
    assert not any("channel" in clip.name for clip in desktop)


@pytest.mark.parametrize("colour", COLOURS)
def test_coloured_noise_falls_as_its_name_says(colour):
    noise = coloured(1 << 15, COLOURS[colour], np.random.default_rng(0))
    power = np.square(np.abs(np.fft.rfft(noise)))
    hz = np.fft.rfftfreq(len(noise), 1 / 8_000)
    low, high = (power[(hz >= at) & (hz < 2 * at)].mean() for at in (200, 1600))
    # Three octaves, 3 dB each per unit of the exponent.
    assert 10 * np.log10(high / low) == pytest.approx(9 * COLOURS[colour], abs=1.0)
    assert np.sqrt(np.mean(np.square(noise))) == pytest.approx(0.1, rel=1e-3)


def test_made_noises_are_the_generators(datasets):
    made = [synthesise(8_000, np.random.default_rng(seed)) for seed in range(40)]
    assert all(np.isfinite(noise).all() and noise.dtype == np.float32 for noise in made)
    assert np.array_equal(made[3], synthesise(8_000, np.random.default_rng(3)))
    assert not np.array_equal(made[3], made[4])
