"""Spoken digits and letters in five languages: a classifier that knows which command is said and in which language.

    sensorium data pull && make voices
    # learn from every voice
    .venv-training/bin/python -m services.speech.training.train_commands
    # and judge by one never heard
    .venv-training/bin/python -m services.speech.training.train_commands --leave-out carlo --out runs/carlo
    # recordings alone, dense layers
    .venv-training/bin/python -m services.speech.training.train_commands --engines "" --body dnn
    # your own words instead
    .venv-training/bin/python -m services.speech.training.train_commands --folders speech_commands_v0.02
    # the same curve by two processes
    .venv-training/bin/torchrun --nproc-per-node 2 -m services.speech.training.train_commands

Recordings are the prompts of Asterisk; synthesised voices are added to training, as most languages have two recorded
speakers and two have one. Only recordings are ever tested on. A run leaves in --out its checkpoints and curves,
`result.json` (what was said of every test clip) and `answers.npz` (logits). `release_commands` makes the artifact.
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

from services.speech.pipeline.command import Samples, place, trim
from services.speech.training import words
from services.speech.training.augmentation.recipe import CommandAugmentation, cut_word
from services.speech.training.data import asterisk, klettres, pocketsphinx, speech_commands
from services.speech.training.data.clips import Clip, digest_clips
from services.speech.training.data.mixture import Mixture
from services.speech.training.data.music import read_music
from services.speech.training.data.noises import read_desktop
from services.speech.training.data.synthesised import read_voices
from services.speech.training.learning import learn, make_sound_parser, predict
from services.speech.training.model.networks import SoundClassifier
from shared.training.arguments import parse_once
from shared.training.errors import DataError
from shared.training.evaluation.calibration import softmax
from shared.training.fit import Fitted
from shared.training.randomness import item_rng
from shared.training.run import Run, launch, start

RECIPE = "commands"
LENGTH = 12_000  # 1.5 s: the longest name of a letter, and some
LEVEL = 0.1  # root mean square of a window's sound
VOICES = tuple(sorted({package.voice for package in asterisk.PACKAGES if package.trained}))
# Voices that are left out together, by the number of networks. English and Spanish of Allison are one voice; in each half
# every language that has two recorded voices keeps one.
FOLDS = {
    2: (("allison", "armelle", "carlo"), ("ivrvoice", "june", "menardi")),
    6: tuple((voice,) for voice in VOICES),
}
# Synthesised voices that are kept for watching the training and learned from in none.
WATCHED = frozenset(
    {
        "kokoro/ef_dora",
        "kokoro/im_nicola",
        "kokoro/am_adam",
        "espeak-ng/it+f2",
        "espeak-ng/ru+f4",
        "flite/rms",
    }
)
RESULT, ANSWERS = "result.json", "answers.npz"
# How often an epoch's item is a digit, a letter, something else.
_SHARES = (0.6, 0.37, 0.03)


@dataclass
class Data:
    """What is learned from, watched and judged by, and the labels in the order of the outputs."""

    labels: list[str]
    train: list[Clip]
    watch: list[Clip]
    test: list[Clip]
    music: list[Samples]  # for the background
    others: list[Samples]  # other people, for the background


@dataclass
class Trained:
    """A network, what it learned from and is judged by, and its logits for that."""

    network: SoundClassifier
    data: Data
    fitted: Fitted
    logits: NDArray[np.float32]


def load_data(run: Run) -> Data:
    """Read recordings and synthesised voices, those that are left out as tests.

    Raises:
        DataError: something is not there, damaged, or a voice is unknown.
    """
    arguments = run.arguments
    if arguments.folders:
        return _load_folders(arguments.folders, arguments.limit)
    left_out = {voice for voice in arguments.leave_out.split(",") if voice}
    if unknown := sorted(left_out - set(VOICES)):
        raise DataError(
            arguments.data,
            expected=f"voices among {', '.join(VOICES)}",
            got=", ".join(unknown),
            advice="mend --leave-out",
        )
    tested = left_out | {package.voice for package in asterisk.PACKAGES if not package.trained}
    packages = [package for package in asterisk.PACKAGES if package.voice not in tested]
    recorded = asterisk.read_commands(arguments.data)
    said = asterisk.read_other(arguments.data, packages, limit=arguments.limit)
    music, desktop = read_music(arguments.data), read_desktop(arguments.data)
    engines = tuple(engine for engine in arguments.engines.split(",") if engine)
    made = read_voices(arguments.data, engines=engines, limit=arguments.limit) if engines else []
    train = [clip for clip in recorded if clip.voice not in tested]
    others = [
        Clip(clip.samples, words.UNKNOWN, clip.voice, clip.source, clip.name)
        for clip in (*said, *music, *desktop)
    ]
    return Data(
        labels=words.labels(),
        train=[*train, *(clip for clip in made if clip.voice not in WATCHED), *others],
        watch=[clip for clip in made if clip.voice in WATCHED] or train,
        test=[
            *(clip for clip in recorded if clip.voice in tested),
            *klettres.read_letters(arguments.data),
            *pocketsphinx.read_digits(arguments.data),
        ],
        music=[clip.samples for clip in music],
        others=[clip.samples for clip in said],
    )


def _load_folders(folder: Path, limit: int | None) -> Data:
    splits = speech_commands.read_splits(folder, limit=limit)
    labels = sorted({clip.label for clip in splits.train})
    watch = splits.validation or splits.train
    return Data(labels, splits.train, watch, splits.test, splits.background, [])


class Drawing:
    """Which clip an item is, and how it is changed; all from the item's own generator."""

    def __init__(self, data: Data, seed: int) -> None:
        digits = [label for label in data.labels if is_digit(label)]
        letters = [label for label in data.labels if label not in digits and label != words.UNKNOWN]
        groups = zip(_SHARES, (digits, letters, [words.UNKNOWN]), strict=True)
        self._mixture = Mixture(data.train, list(groups))
        self._index = {label: at for at, label in enumerate(data.labels)}
        self._augment = CommandAugmentation(LENGTH, LEVEL, music=data.music, others=data.others)
        self._seed = seed

    def make(self, at: int, index: int) -> tuple[Samples, int]:
        """The samples [LENGTH] and the label's number of one item of a round of epochs."""
        rng = item_rng(self._seed, at, index)
        clip = self._mixture.draw(rng)
        samples = cut_word(clip.samples, rng) if clip.label == words.UNKNOWN else trim(clip.samples)
        return self._augment(samples, rng), self._index[clip.label]


def prepare(clips: Sequence[Clip]) -> NDArray[np.float32]:
    """Bring clips into the windows that are served: [clips, LENGTH]."""
    return np.stack([place(trim(clip.samples), LENGTH, LEVEL) for clip in clips])


def train(run: Run) -> Trained:
    """Learn as the arguments say, and answer the test clips."""
    arguments = run.arguments
    data = load_data(run)
    run.say(
        f"clips: {len(data.train)} to learn from, {len(data.watch)} to watch, {len(data.test)} to judge by"
    )
    network = SoundClassifier(arguments.body, len(data.labels), LENGTH, width=arguments.width)
    run.say(f"{sum(weights.numel() for weights in network.parameters()):,} weights")
    fitted = learn(
        run,
        network,
        Drawing(data, run.seed).make,
        prepare(data.watch),
        numbers(data.watch, data.labels),
        data_digest=digest_clips(data.labels, data.train, data.watch),
    )
    logits = (
        predict(network, prepare(data.test), run.device)
        if data.test
        else np.zeros((0, len(data.labels)), np.float32)
    )
    return Trained(network, data, fitted, logits)


def numbers(clips: Sequence[Clip], labels: Sequence[str]) -> NDArray[np.int64]:
    """The labels' numbers of clips: [clips]."""
    index = {label: at for at, label in enumerate(labels)}
    return np.array([index[clip.label] for clip in clips], np.int64)


def describe(
    clips: Sequence[Clip], logits: NDArray[np.float32], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """What was said of each clip, one row each."""
    scores = softmax(logits) if len(logits) else logits
    languages = np.array([label.partition(":")[0] for label in labels])

    def answer_in(label: str, row: NDArray[np.float64]) -> str:
        # A label without a language is among all.
        own = np.flatnonzero(languages == label.partition(":")[0]) if ":" in label else np.arange(len(labels))
        return labels[int(own[row[own].argmax()])]

    return [
        {
            "voice": clip.voice,
            "source": clip.source,
            "name": clip.name,
            "label": clip.label,
            "answer": labels[int(row.argmax())],
            "answer_in_language": answer_in(clip.label, row),
            "score": round(float(row.max()), 4),
        }
        for clip, row in zip(clips, scores, strict=True)
    ]


def is_digit(label: str) -> bool:
    """Whether a label is a digit in some language."""
    return label.partition(":")[2].isdigit()


def is_right(row: dict[str, Any], key: str = "answer") -> bool:
    """Whether the command is the one that was said; which language it was taken for does not count."""
    said, answer = str(row["label"]), str(row[key])
    return said == answer or (":" in said and said.partition(":")[2] == answer.partition(":")[2])


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, tuple[int, int]]]:
    """(right, all) of digits and of letters or other words, by `<voice> <language>`."""
    found: dict[str, dict[str, tuple[int, int]]] = {"digits": {}, "letters": {}}
    for row in rows:
        kind = found["digits" if is_digit(row["label"]) else "letters"]
        key = f"{row['voice']} {row['label'].partition(':')[0]}" if ":" in row["label"] else "all words"
        right, count = kind.get(key, (0, 0))
        kind[key] = (right + is_right(row), count + 1)
    return found


def main(arguments: argparse.Namespace) -> Trained:
    """Learn, judge, keep what was found; returns it."""
    with start(arguments, RECIPE) as run:
        trained = train(run)
        rows = describe(trained.data.test, trained.logits, trained.data.labels)
        for kind, voices in summarise(rows).items():
            for voice, (right, count) in voices.items():
                run.say(f"{kind:9}{voice:22}{right}/{count} = {right / count:.3f}")
        if run.is_main:
            kept = {
                "labels": trained.data.labels,
                "best": trained.fitted.best,
                "duration_s": round(trained.fitted.duration_s, 1),
                "rows": rows,
            }
            (run.out / RESULT).write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
            np.savez_compressed(run.out / ANSWERS, logits=trained.logits)
        return trained


def train_folds(arguments: argparse.Namespace, count: int) -> list[Trained]:
    """Train a network for each group of voices in FOLDS, which it never hears, in folders `fold-<n>` of --out."""
    return [
        main(
            argparse.Namespace(
                **{**vars(arguments), "leave_out": ",".join(voices), "out": arguments.out / f"fold-{at}"}
            )
        )
        for at, voices in enumerate(FOLDS[count])
    ]


def run_once(
    seed: int, data_dir: Path, out_dir: Path, *, limit: int | None = None, folds: int = 2
) -> dict[str, Any]:
    """One seed's networks as `make quality` asks for them; what was said of every clip whose voice was never heard.

    Of the voices in no training it is the first network's answer that counts.
    """
    own = () if limit is None else ("--epochs", "1")
    trained = train_folds(parse_once(get_args_parser(), seed, data_dir, out_dir, *own, limit=limit), folds)
    rows: list[dict[str, Any]] = []
    for one, left_out in zip(trained, FOLDS[folds], strict=True):
        judged = describe(one.data.test, one.logits, one.data.labels)
        rows += [row for row in judged if row["voice"] in left_out or one is trained[0]]
    return {"seed": seed, "rows": rows, "duration_s": max(one.fitted.duration_s for one in trained)}


def get_args_parser(doc: str | None = __doc__) -> argparse.ArgumentParser:
    """The shared options, and this recipe's."""
    parser = make_sound_parser(doc, epochs=30, items=4500, body="gru", width=16)
    group = parser.add_argument_group("commands")
    group.add_argument(
        "--leave-out",
        default="",
        metavar="VOICES",
        help=f"voices never heard, of {', '.join(VOICES)}; commas between",
    )
    group.add_argument(
        "--engines",
        default="kokoro,festival,flite,espeak-ng",
        help="synthesisers to learn from; empty for none",
    )
    group.add_argument(
        "--folders", type=Path, help="a folder in Speech Commands' published format, learned from instead"
    )
    return parser


if __name__ == "__main__":
    launch(main, get_args_parser())
