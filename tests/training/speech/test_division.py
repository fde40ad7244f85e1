"""Which recordings are held out of the sounds' folds, and how items are drawn."""

from collections import Counter

import numpy as np

from services.speech.training import words
from services.speech.training.data.clips import Clip
from services.speech.training.data.mixture import Mixture
from services.speech.training.train_commands import is_right, summarise
from services.speech.training.train_sounds import FOLDS, LABELS, divide


def clip(label: str, voice: str, *, real: bool = True) -> Clip:
    return Clip(np.ones(800, np.float32), label, voice, "set", "name", real)


def test_every_voice_piece_and_sound_is_held_out_once():
    clips = [clip(label, f"{label}-{number}") for label in LABELS for number in range(7) for _ in range(2)]
    held_out = Counter()
    for fold in range(FOLDS):
        kept, test = divide(clips, fold)
        test = [one for one in test if one.real]
        assert {one.voice for one in kept}.isdisjoint(one.voice for one in test)
        assert len(kept) + len(test) == len(clips)
        assert {one.label for one in test} == set(LABELS)
        held_out.update({one.voice for one in test})
    assert len(held_out) == 3 * 7
    assert set(held_out.values()) == {1}
    kept, test = divide(clips, -1)
    assert (len(kept), test) == (len(clips), [])


def test_the_voice_under_the_gpl_is_never_kept():
    clips = [
        clip("speech", "colombia"),
        clip("speech", "carlo"),
        clip("music", "piece"),
        clip("noise", "bell"),
    ]
    for fold in range(-1, FOLDS):
        assert "colombia" not in {one.voice for one in divide(clips, fold)[0]}


def test_labels_are_drawn_evenly_and_recordings_in_their_share():
    clips = [clip("en:1", "a"), *(clip("en:1", "kokoro/b", real=False) for _ in range(50))]
    clips += [clip("en:2", "espeak-ng/c", real=False), clip(words.UNKNOWN, "d")]
    mixture = Mixture(clips, [(0.8, ["en:1", "en:2", "en:3"]), (0.2, [words.UNKNOWN])])
    rng = np.random.default_rng(0)
    drawn = [mixture.draw(rng) for _ in range(4_000)]
    count = Counter(one.label for one in drawn)
    assert abs(count["en:1"] - count["en:2"]) < 200
    assert 0.17 < count[words.UNKNOWN] / len(drawn) < 0.23
    recorded = sum(one.voice == "a" for one in drawn) / count["en:1"]
    assert 0.35 < recorded < 0.45


def test_right_is_the_command_in_whichever_language():
    def row(label: str, answer: str, voice: str = "x") -> dict[str, str]:
        return {"label": label, "answer": answer, "voice": voice}

    assert is_right(row("it:1", "es:1"))
    assert is_right(row("yes", "yes"))
    assert not is_right(row("it:1", "it:2"))
    assert not is_right(row("it:1", words.UNKNOWN))
    assert not is_right(row("yes", "no"))
    assert summarise([row("it:1", "it:1"), row("it:2", "it:1"), row("it:a", "es:a")]) == {
        "digits": {"x it": (1, 2)},
        "letters": {"x it": (1, 1)},
    }


def test_labels_have_one_meaning_each():
    labels = words.labels()
    assert len(labels) == len(set(labels)) == 50 + 4 * 26 + 1
    assert words.spoken("fr", "7") == "sept"
    assert words.spoken("en", "q") == "Q"
    assert words.spoken("es", "y") == "i griega"
