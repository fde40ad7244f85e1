"""What is measured for the card of the commands model: digits and letters of voices never heard.

Not here: the making of the artifact (`release_commands`), how a card is laid out (`shared.training.card`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from services.speech.training import words
from services.speech.training.conditions import CONDITIONS, change_all
from services.speech.training.data.clips import Clip
from services.speech.training.forms import Forms
from services.speech.training.train_commands import RECIPE, Trained, is_digit, numbers, predict, prepare
from shared.inference.manifest import Made
from shared.training.card.content import Calibration, Card, Rival, Test
from shared.training.evaluation.baseline import linear, majority, nearest_neighbour
from shared.training.evaluation.calibration import reliability, softmax
from shared.training.evaluation.interval import Interval, wilson
from shared.training.evaluation.metrics import Metrics, calibration_error, measure
from shared.training.evaluation.paired import compare
from shared.training.evaluation.slices import Slice, cut

# What an answer can be, whatever the language.
DIGIT_NAMES = (*(str(digit) for digit in range(10)), "other")
LETTER_NAMES = (*words.LATIN, "other")
# Clips that baselines learn from: all recordings, and so many synthesised ones.
_BASELINE_CLIPS = 4000

LIMITS = (
    "One command at a time, up to 1.5 s; of a sentence it hears the loudest part and should say `unknown`, which is not "
    "dependable: what else people say was never gathered.",
    "Seven recorded voices in all, professional speakers in studios, none a child or old, one a man in "
    "training. Expect less of "
    "callers, of dialects, and of telephones with drop-outs.",
    "For English and Russian one recorded voice each is all there is; the rest of what is known of them comes from "
    "synthesisers.",
    "Letters are much harder than digits: b, d, e, p, t, v sound alike over the telephone. Do not spell names with it.",
    "Without a language the five are mixed up: `uno` is Italian and Spanish, and strangers' accents are taken for another "
    "language's words. Say the language wherever it is known.",
    "Digits are 0 to 9, in English without `oh`; letters are Latin ones. The Russian voice says them by their "
    "English names; "
    "Cyrillic letters are not known.",
)


@dataclass(frozen=True)
class Judged:
    """Test clips with logits of networks that never heard their voices."""

    clips: list[Clip]
    logits: NDArray[np.float32]

    def take(self, chosen: NDArray[np.bool_]) -> Judged:
        """Some of them."""
        return Judged(
            [clip for clip, kept in zip(self.clips, chosen, strict=True) if kept], self.logits[chosen]
        )

    @property
    def in_language(self) -> Judged:
        """The same as if each caller had said the language: labels of others cannot be answers."""
        languages = np.array([label.partition(":")[0] for label in words.labels()])
        other = languages[None] != np.array([clip.label.partition(":")[0] for clip in self.clips])[:, None]
        return Judged(self.clips, np.where(other, np.float32(-1e4), self.logits))

    @property
    def digits(self) -> Judged:
        """The digits."""
        return self.take(np.array([is_digit(clip.label) for clip in self.clips], bool))

    @property
    def letters(self) -> Judged:
        """The letters."""
        return self.take(np.array([not is_digit(clip.label) for clip in self.clips], bool))


def gather(folds: Sequence[Trained], final: Trained) -> Judged:
    """Every test clip once: voices left out by their fold's network, those in no training by the final one."""
    clips: list[Clip] = []
    logits: list[NDArray[np.float32]] = []
    never = {clip.voice for clip in final.data.test}
    for fold in folds:
        for clip, row in zip(fold.data.test, fold.logits, strict=True):
            if clip.voice not in never:
                clips.append(clip)
                logits.append(row)
    return Judged([*clips, *final.data.test], np.array([*logits, *final.logits], np.float32))


def commands_of(labels: Sequence[str], names: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of labels' commands among `names`, whichever their language; of any other label the last."""
    index = {name: at for at, name in enumerate(names)}
    return np.array([index.get(label.partition(":")[2], len(names) - 1) for label in labels], np.int64)


def measure_commands(judged: Judged, names: Sequence[str]) -> Metrics:
    """How often the best answer is the command that was said."""
    labels = words.labels()
    answers = commands_of([labels[at] for at in judged.logits.argmax(1)], names)
    return measure(commands_of([clip.label for clip in judged.clips], names), answers, names)


def count_voices(judged: Judged) -> dict[str, Interval]:
    """Share of right commands with its interval, by `<voice> <language>`."""
    labels = words.labels()
    found: dict[str, list[bool]] = {}
    for clip, row in zip(judged.clips, judged.logits, strict=True):
        language, _, command = clip.label.partition(":")
        found.setdefault(f"{clip.voice} {language}", []).append(
            labels[int(row.argmax())].partition(":")[2] == command
        )
    return {voice: wilson(sum(right), len(right)) for voice, right in sorted(found.items())}


def measure_conditions(folds: Sequence[Trained], final: Trained) -> list[Slice]:
    """Digits of voices never heard under each condition, worst first."""
    correct: list[NDArray[np.bool_]] = []
    keys: list[str] = []
    for condition in CONDITIONS:
        changed = [_change(trained, condition) for trained in (*folds, final)]
        judged = gather(changed[:-1], changed[-1]).digits
        right = measure_commands(judged, DIGIT_NAMES).correct
        correct.append(right)
        keys += [condition] * len(right)
    return cut(np.concatenate(correct), keys)


def _change(trained: Trained, condition: str) -> Trained:
    """The same with its digits changed and answered anew; letters are left out."""
    clips = [clip for clip in trained.data.test if is_digit(clip.label)]
    changed = change_all([clip.samples for clip in clips], condition)
    test = [replace(clip, samples=samples) for samples, clip in zip(changed, clips, strict=True)]
    data = replace(trained.data, test=test)
    device = next(trained.network.parameters()).device
    return Trained(trained.network, data, trained.fitted, predict(trained.network, prepare(test), device))


def answer_baselines(folds: Sequence[Trained], final: Trained) -> dict[str, NDArray[np.bool_]]:
    """Which digits simpler models get right, that learned from the same recordings and some of the same voices."""
    found: dict[str, list[Trained]] = {}
    for trained in (*folds, final):
        learnt, truth = _sample(trained)
        seen = _features(trained, trained.data.test)
        for baseline in (
            majority(truth, len(seen)),
            linear(learnt, truth, seen, strength=0.01),
            nearest_neighbour(learnt, truth, seen, metric="cosine"),
        ):
            logits = np.eye(len(trained.data.labels), dtype=np.float32)[baseline.answers]
            found.setdefault(baseline.name, []).append(
                Trained(trained.network, trained.data, trained.fitted, logits)
            )
    return {
        name: measure_commands(gather(parts[:-1], parts[-1]).digits, DIGIT_NAMES).correct
        for name, parts in found.items()
    }


def _sample(trained: Trained) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    known = [clip for clip in trained.data.train if clip.label != words.UNKNOWN]
    made = [clip for clip in known if not clip.real]
    chosen = (
        np.unique(np.linspace(0, len(made) - 1, min(_BASELINE_CLIPS, len(made))).astype(int)) if made else []
    )
    clips = [*(clip for clip in known if clip.real), *(made[at] for at in chosen)]
    return _features(trained, clips), numbers(clips, trained.data.labels)


def _features(trained: Trained, clips: Sequence[Clip]) -> NDArray[np.float32]:
    """Energies of 20 bands in 24 steps of each clip's window, flattened."""
    rows = prepare(clips)
    with torch.no_grad():
        energies = torch.cat(
            [
                trained.network.front(torch.from_numpy(rows[at : at + 256])).cpu()
                for at in range(0, len(rows), 256)
            ]
        )
        pooled = torch.nn.functional.adaptive_avg_pool2d(energies[:, None], (20, 24))
    return pooled.flatten(1).numpy()


def describe_card(
    folds: Sequence[Trained], final: Trained, judged: Judged, forms: Forms, made: Made, temperature: float
) -> Card:
    """The card of what is served; `judged` are the calibrated answers to all test clips."""
    digits, letters = judged.digits, judged.letters
    figures = measure_commands(digits, DIGIT_NAMES)
    voices = np.array([clip.voice for clip in digits.clips])
    rivals = [
        Rival(name, wilson(int(right.sum()), len(right)), compare(figures.correct, right, clusters=voices))
        for name, right in answer_baselines(folds, final).items()
    ]
    labels = words.labels()
    truth = numbers(judged.clips, labels)
    languages = [clip.label.partition(":")[0] for clip in digits.clips]
    right_language = np.mean(
        [
            labels[at].startswith(f"{language}:")
            for at, language in zip(digits.logits.argmax(1), languages, strict=True)
        ]
    )
    by_voice = count_voices(digits)
    worst = min(by_voice, key=lambda voice: by_voice[voice].value)
    return Card(
        name=RECIPE,
        title="Says which digit or letter is spoken in English, Spanish, French or Italian, or which digit in Russian: "
        "one command of up to 1.5 s.",
        labels=DIGIT_NAMES,
        tests=[
            Test(
                "Digits, every voice judged by a network that never heard it",
                figures,
                rivals,
                f"Recordings only. {len(folds)} networks leave out "
                f"{', '.join(' and '.join(_left_out(fold)) for fold in folds)}; "
                "the voices `colombia`, `cards` are in no training. Right is the digit, in whichever of the "
                "five languages "
                f"it is taken for; the language is right for {right_language:.2f} of them. All 155 labels, "
                "letters included, are "
                "possible answers.",
            ),
            Test(
                "The same digits, the language said by the caller",
                measure_commands(digits.in_language, DIGIT_NAMES),
                (),
                "Only the 10 digits and, but for Russian, 26 letters of the language are possible answers.",
            ),
            Test(
                "Letters, voices never heard, the language said by the caller",
                measure_commands(letters.in_language, LETTER_NAMES),
                (),
                f"Without the language {measure_commands(letters, LETTER_NAMES).accuracy}. The five voices of KLettres are "
                "in no training. The classes, confusion and slices below are of the digits without the language.",
            ),
        ],
        made=made,
        data=[
            "Recordings: asterisk-core-sounds-{en,es,fr,it}-wav 1.6.1 (CC-BY-SA-3.0: Allison Smith, June "
            "Wallack, Carlo Flora), "
            "-ru-wav (CC-BY-3.0), asterisk-prompt-it-menardi-wav (CC-BY-SA-3.0), -fr-armelle (BSD-2-Clause).",
            "Judged by only, never trained on: asterisk-prompt-es-co and klettres-data (GPL-2.0), "
            "pocketsphinx-testdata (BSD).",
            "Synthesised voices, trained on and never judged by: eSpeak NG 1.51 (48 timbres a language), Flite "
            "2.2 (4 English "
            "voices), Festival 2.5 (English, Italian, Russian), Kokoro-82M (Apache-2.0; about 10 voices a language for "
            "digits, 2 for letters); `make voices` makes them again.",
            "Music and sounds in the background, and as what is no command: asterisk-moh-opsound-wav (CC-BY-SA-3.0), "
            "sound-theme-freedesktop (CC-BY-SA-3.0 and others by file).",
        ],
        license="CC-BY-SA-3.0: the weights are made from recordings under it; whoever takes that to cover "
        "weights is on the "
        "safe side by passing them on under the same terms",
        limits=LIMITS,
        calibration=Calibration(
            reliability(truth, softmax(judged.logits)),
            before=calibration_error(truth, softmax(judged.logits, 1 / temperature)),
            after=calibration_error(truth, softmax(judged.logits)),
            temperature=temperature,
        ),
        slices={
            "voice": cut(
                figures.correct,
                [f"{clip.voice} {language}" for clip, language in zip(digits.clips, languages, strict=True)],
                at_least=3,
            ),
            "language": cut(figures.correct, languages, at_least=3),
            "condition": measure_conditions(folds, final),
        },
        fairness=f"People differ here by voice and language. Worst is {worst} with {by_voice[worst]}; ten "
        "digits a voice tell "
        "little, so the intervals are wide. Women's voices are most of the recordings; one man's is among the "
        "voices left out.",
        points=forms.points,
        parity=forms.parity,
        ladder=[
            *((f"digits, {voice}", str(share)) for voice, share in by_voice.items()),
            *(
                (f"digits, {voice}, language said", str(share))
                for voice, share in count_voices(digits.in_language).items()
            ),
            *((f"letters, {voice}", str(share)) for voice, share in count_voices(letters).items()),
            *(
                (f"letters, {voice}, language said", str(share))
                for voice, share in count_voices(letters.in_language).items()
            ),
        ],
        training="Log-mel energies (40 bands to 3.6 kHz, 25 ms every 15 ms, centred band by band) inside the "
        "graph; convolutions "
        "over frequency and time and a gated recurrent layer; cross-entropy with smoothed labels, AdamW, "
        "cosine. Items are "
        "drawn evenly by label, two in five a recording where there is one, played up to 22 % faster or "
        "slower, put into "
        "rooms, coloured, mixed with noise, music and other people from 3 dB below on, sent over a telephone; "
        "bands are warped "
        f"and masked. {final.fitted.duration_s:.0f} s for the network that is served, on a busy machine.",
    )


def _left_out(fold: Trained) -> list[str]:
    heard = {clip.voice for clip in fold.data.train}
    return sorted(
        {clip.voice for clip in fold.data.test if clip.source.startswith("asterisk")} - heard - {"colombia"}
    )
