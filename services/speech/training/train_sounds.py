"""Speech, music or noise: what kind of sound a clip is, by windows of 1.5 s.

    sensorium data pull
    .venv-training/bin/python -m services.speech.training.train_sounds                     # fold 0 of 5 is held out
    .venv-training/bin/python -m services.speech.training.train_sounds --fold 3 --seed 3   # another one
    .venv-training/bin/python -m services.speech.training.train_sounds --fold -1           # learn from everything
    .venv-training/bin/torchrun --nproc-per-node 2 -m services.speech.training.train_sounds

Speech is the prompts of Asterisk, music five pieces for those who wait, noise the sounds of a desktop and made ones:
coloured noise, hum, crackle, knocks, next to silence. A fold holds out whole voices, pieces and sounds; its made noises
come from generators that training never uses. A run leaves in --out its checkpoints and curves, `result.json` and
`answers.npz`. `release_sounds` makes the artifact.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.speech.pipeline.command import Samples, windows
from services.speech.training.augmentation.recipe import SoundAugmentation, cut
from services.speech.training.augmentation.waveform import rms
from services.speech.training.data import asterisk
from services.speech.training.data.clips import Clip, digest_clips
from services.speech.training.data.music import MUSIC, read_music
from services.speech.training.data.noises import NOISE, read_desktop, synthesise
from services.speech.training.learning import learn, make_sound_parser, predict
from services.speech.training.model.networks import SoundClassifier
from shared.training.arguments import parse_once
from shared.training.evaluation.calibration import softmax
from shared.training.fit import Fitted
from shared.training.randomness import item_rng, mix
from shared.training.run import Run, launch, start

RECIPE = "sounds"
SPEECH = "speech"
LABELS = (SPEECH, MUSIC, NOISE)
LENGTH = 12_000  # 1.5 s
HOP = 6_000
LEVEL = 0.1
FOLDS = 5
RESULT, ANSWERS = "result.json", "answers.npz"
# Windows of one recording that are judged, so that minutes of one piece do not outweigh many short sounds.
_MOST_WINDOWS = 200
# Prompts of one voice that are judged: with these the three kinds have about as many windows.
_MOST_PROMPTS = 120
# Noises made for judging, and for watching, of as many kinds as generators.
_MADE = 120
# Rounds of item_rng that no training gets to.
_TEST_ROUND, _WATCH_ROUND = 1_000_001, 1_000_002


@dataclass
class Data:
    """Recordings to learn from, to watch and to judge by."""

    train: list[Clip]
    watch: list[Clip]
    test: list[Clip]

    @property
    def never(self) -> list[str]:
        """Voices, pieces and recorded sounds that are held out."""
        return sorted({clip.voice for clip in self.test if clip.real})


@dataclass
class Trained:
    """A network, what it is judged by in windows, and its logits for them."""

    network: SoundClassifier
    data: Data
    fitted: Fitted
    windows: NDArray[np.float32]
    owners: NDArray[np.int64]  # of each window, the number of its test clip
    logits: NDArray[np.float32]

    @property
    def truth(self) -> NDArray[np.int64]:
        """The label's number of each window."""
        return np.array([LABELS.index(self.data.test[owner].label) for owner in self.owners], np.int64)


def load_data(run: Run) -> Data:
    """Read everything and hold a fold out; of the rest, every seventh recording is watched.

    Raises:
        DataError: something is not there, or damaged.
    """
    arguments = run.arguments
    said = [
        Clip(clip.samples, SPEECH, clip.voice, clip.source, clip.name)
        for clip in asterisk.read_other(arguments.data, limit=arguments.limit)
    ]
    clips = [*said, *read_music(arguments.data), *read_desktop(arguments.data)]
    kept, test = divide(clips, arguments.fold)
    test = [clip for clip in test if clip.label != SPEECH] + _take_prompts(test)
    # Watching needs no strange voices: it picks an epoch.
    watch = [clip for at, clip in enumerate(kept) if at % 7 == 0 and clip.label != MUSIC]
    watch += [clip for clip in kept if clip.label == MUSIC]
    made = [_make_noise(run.seed, _WATCH_ROUND, index) for index in range(_MADE)]
    train = [clip for at, clip in enumerate(kept) if at % 7 != 0 or clip.label == MUSIC]
    return Data(train, [*watch, *made], test)


def divide(clips: Sequence[Clip], fold: int) -> tuple[list[Clip], list[Clip]]:
    """(kept, held out): whole voices, pieces and sounds, by their names' places in the alphabet; fold -1 holds out none.

    The voice whose recordings the GPL covers is held out always.
    """
    kept: list[Clip] = []
    test: list[Clip] = []
    never = {package.voice for package in asterisk.PACKAGES if not package.trained}
    names = {label: sorted({clip.voice for clip in clips if clip.label == label} - never) for label in LABELS}
    for clip in clips:
        out = clip.voice in never or (fold >= 0 and names[clip.label].index(clip.voice) % FOLDS == fold)
        (test if out else kept).append(clip)
    if fold >= 0:
        test += [_make_noise(fold, _TEST_ROUND, index) for index in range(_MADE)]
    return kept, test


def _take_prompts(clips: Sequence[Clip]) -> list[Clip]:
    taken: list[Clip] = []
    for voice in sorted({clip.voice for clip in clips if clip.label == SPEECH}):
        own = [clip for clip in clips if clip.label == SPEECH and clip.voice == voice]
        chosen = np.unique(np.linspace(0, len(own) - 1, min(_MOST_PROMPTS, len(own))).astype(int))
        taken += [own[at] for at in chosen]
    return taken


def _make_noise(seed: int, at: int, index: int) -> Clip:
    samples = synthesise(LENGTH, item_rng(mix(seed, at), at, index))
    return Clip(samples, NOISE, f"made-{index}", "synthesised", f"{at}-{index}", real=False)


class Drawing:
    """Which recording an item is a piece of, and how it is changed; all from the item's own generator."""

    def __init__(self, train: Sequence[Clip], seed: int) -> None:
        # Voices, pieces and sounds evenly, whatever their length.
        self._owners: list[list[list[Clip]]] = []
        for label in LABELS:
            voices = sorted({clip.voice for clip in train if clip.label == label})
            self._owners.append(
                [[clip for clip in train if clip.label == label and clip.voice == voice] for voice in voices]
            )
        self._augment = SoundAugmentation(LENGTH, LEVEL)
        self._seed = seed

    def make(self, at: int, index: int) -> tuple[Samples, int]:
        """The samples [LENGTH] and the label's number of one item of a round of epochs."""
        rng = item_rng(self._seed, at, index)
        label = int(rng.integers(len(LABELS)))
        if LABELS[label] == NOISE and rng.random() < 0.6:
            samples = synthesise(LENGTH, rng)
        else:
            owner = self._owners[label][int(rng.integers(len(self._owners[label])))]
            clip = owner[int(rng.integers(len(owner)))]
            # A piece longer than a window, as it may be played faster; one that has sound in it.
            pieces = [cut(clip.samples, LENGTH + 4_000, rng, repeat=clip.label == MUSIC) for _ in range(2)]
            samples = max(pieces, key=rms)
        return self._augment(samples, rng), label


def prepare(clips: Sequence[Clip]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Windows [windows, LENGTH] as they are served, and of each the number of its clip; of long clips evenly chosen ones."""
    rows: list[Samples] = []
    owners: list[int] = []
    for number, clip in enumerate(clips):
        found = windows(clip.samples, LENGTH, HOP, LEVEL)
        chosen = np.unique(np.linspace(0, len(found) - 1, _MOST_WINDOWS).astype(int))
        rows += [found[at] for at in chosen]
        owners += [number] * len(chosen)
    return np.stack(rows), np.array(owners, np.int64)


def train(run: Run) -> Trained:
    """Learn as the arguments say, and answer the windows that are held out."""
    arguments = run.arguments
    data = load_data(run)
    run.say(
        f"clips: {len(data.train)} to learn from, {len(data.watch)} to watch, {len(data.test)} to judge by"
    )
    network = SoundClassifier(arguments.body, len(LABELS), LENGTH, width=arguments.width, centre=False)
    run.say(f"{sum(weights.numel() for weights in network.parameters()):,} weights")
    watched, owners = prepare(data.watch)
    target = np.array([LABELS.index(data.watch[owner].label) for owner in owners], np.int64)
    digest = digest_clips(LABELS, data.train, data.watch)
    fitted = learn(run, network, Drawing(data.train, run.seed).make, watched, target, data_digest=digest)
    rows, owners = prepare(data.test)
    return Trained(network, data, fitted, rows, owners, predict(network, rows, run.device))


def describe(trained: Trained) -> list[dict[str, Any]]:
    """What was said of each clip by the mean over its windows, one row each."""
    scores = softmax(trained.logits)
    rows = []
    for number, clip in enumerate(trained.data.test):
        mean = scores[trained.owners == number].mean(axis=0)
        rows.append(
            {
                "label": clip.label,
                "voice": clip.voice,
                "source": clip.source,
                "name": clip.name,
                "answer": LABELS[int(mean.argmax())],
                "score": round(float(mean.max()), 4),
                "windows": int((trained.owners == number).sum()),
                "right_windows": int(
                    (scores[trained.owners == number].argmax(1) == LABELS.index(clip.label)).sum()
                ),
            }
        )
    return rows


def main(arguments: argparse.Namespace) -> Trained:
    """Learn, judge, keep what was found; returns it."""
    with start(arguments, RECIPE) as run:
        trained = train(run)
        rows = describe(trained)
        for label in LABELS:
            own = [row for row in rows if row["label"] == label]
            if own:
                right, count = (sum(row[key] for row in own) for key in ("right_windows", "windows"))
                clips = sum(row["answer"] == label for row in own)
                run.say(f"{label}: {right} of {count} windows, {clips} of {len(own)} clips right")
        if run.is_main:
            kept = {
                "fold": arguments.fold,
                "best": trained.fitted.best,
                "duration_s": round(trained.fitted.duration_s, 1),
                "rows": rows,
            }
            (run.out / RESULT).write_text(json.dumps(kept, indent=1) + "\n")
            np.savez_compressed(
                run.out / ANSWERS, logits=trained.logits, labels=trained.truth, owners=trained.owners
            )
        return trained


def run_once(seed: int, data_dir: Path, out_dir: Path, *, limit: int | None = None) -> dict[str, Any]:
    """One run as `make quality` asks for it: fold `seed` % 5 held out; returns what result.json holds."""
    own = ["--fold", str(seed % FOLDS), *(() if limit is None else ("--epochs", "1"))]
    main(parse_once(get_args_parser(), seed, data_dir, out_dir, *own, limit=limit))
    return dict(json.loads((out_dir / RESULT).read_text()))


def get_args_parser(doc: str | None = __doc__) -> argparse.ArgumentParser:
    """The shared options, and this recipe's."""
    parser = make_sound_parser(doc, epochs=6, items=2000, body="cnn", width=8)
    group = parser.add_argument_group("sounds")
    group.add_argument(
        "--fold", type=int, choices=range(-1, FOLDS), default=0, help="the part of 5 held out; -1 for none"
    )
    return parser


if __name__ == "__main__":
    launch(main, get_args_parser())
