"""Spoken digits and letters in five languages: a classifier that knows which command is said and in which language.

    python -m services.speech.training.train_commands                                   # train on every voice
    python -m services.speech.training.train_commands --leave-out carlo --out runs/carlo   # and judge on one never heard
    python -m services.speech.training.train_commands --folders ~/speech_commands_v0.02    # your own words instead
    torchrun --nproc-per-node 2 -m services.speech.training.train_commands --batch-size 64

Recordings are the prompts of Asterisk (`sensorium data pull`); synthesised voices (`make voices`) are added to training,
as most languages have two recorded speakers and two have one. Only recordings are ever tested on. Every item of an epoch
is drawn and changed (speed, room, noise, colour, telephone, masks) by a generator of its own.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.speech.pipeline.command import Samples, place, trim
from services.speech.training import words
from services.speech.training.augmentation import spectrum
from services.speech.training.augmentation.recipe import CommandAugmentation, cut_word
from services.speech.training.data import asterisk, speech_commands
from services.speech.training.data.clips import Clip
from services.speech.training.data.mixture import Mixture
from services.speech.training.data.music import read_music
from services.speech.training.data.noises import read_desktop
from services.speech.training.data.synthesised import read_voices
from services.speech.training.model.networks import BODIES, SoundClassifier
from shared.training.arguments import make_parser
from shared.training.batches import GlobalBatches
from shared.training.distributed import Average, step, wrap
from shared.training.errors import DataError
from shared.training.fit import Fitted, fit
from shared.training.randomness import item_rng, item_uniforms
from shared.training.run import Run, launch, start
from shared.training.schedule import cosine

RECIPE = "commands"
LENGTH = 12_000  # 1.5 s, the longest letter's name and some
LEVEL = 0.1
VOICES = ("allison", "june", "armelle", "carlo", "menardi", "ivrvoice")
# Synthesised voices that are kept for watching the training, heard in none.
_WATCHED = (
    "kokoro/af_bella",
    "kokoro/am_michael",
    "kokoro/ef_dora",
    "kokoro/im_nicola",
    "espeak-ng/it+f2",
    "flite/rms",
)


@dataclass
class Data:
    """What is trained on, watched and tested on, and the labels in the order of the outputs."""

    labels: list[str]
    train: list[Clip]
    watch: list[Clip]
    test: list[Clip]
    background: list[Samples]


def get_args_parser() -> argparse.ArgumentParser:
    """Describe the options."""
    parser = make_parser(__doc__, epochs=30, batch_size=32, learning_rate=2e-3, weight_decay=1e-2, patience=0)
    own = parser.add_argument_group("commands")
    own.add_argument(
        "--leave-out", default="", help=f"voices never heard, comma-separated: {', '.join(VOICES)}"
    )
    own.add_argument("--body", choices=BODIES, default="cnn")
    own.add_argument("--width", type=int, default=16, help="channels of the first stage")
    own.add_argument("--items", type=int, default=4000, help="items of an epoch")
    own.add_argument(
        "--renew", type=int, default=3, help="epochs after which all items are drawn and changed anew"
    )
    own.add_argument(
        "--engines", default="kokoro,festival,flite,espeak-ng", help="synthesised voices; empty for none"
    )
    own.add_argument(
        "--folders", type=Path, help="a folder in Speech Commands' published format, trained on instead"
    )
    return parser


def load_data(run: Run) -> Data:
    """Read recordings and synthesised voices, without the voices that are left out.

    Raises:
        DataError: something is not there, damaged, or a voice is unknown.
    """
    arguments = run.arguments
    if arguments.folders:
        return _load_folders(arguments.folders, arguments.limit)
    left_out = [voice for voice in arguments.leave_out.split(",") if voice]
    if unknown := sorted(set(left_out) - set(VOICES)):
        raise DataError(
            arguments.data,
            expected=f"voices among {', '.join(VOICES)}",
            got=", ".join(unknown),
            advice="mend --leave-out",
        )
    recorded = asterisk.read_commands(arguments.data)
    tested = {package.voice for package in asterisk.PACKAGES if not package.trained} | set(left_out)
    train = [clip for clip in recorded if clip.voice not in tested]
    packages = [package for package in asterisk.PACKAGES if package.voice not in tested]
    said = asterisk.read_other(arguments.data, packages)
    engines = tuple(engine for engine in arguments.engines.split(",") if engine)
    made = read_voices(arguments.data, engines=engines, limit=arguments.limit) if engines else []
    watch = [clip for clip in made if clip.voice in _WATCHED]
    music = [clip.samples for clip in read_music(arguments.data)]
    unknown_clips = [
        Clip(clip.samples, words.UNKNOWN, clip.voice, clip.source, clip.name)
        for clip in [*said, *read_music(arguments.data), *read_desktop(arguments.data)]
    ]
    return Data(
        labels=words.labels(),
        train=[*train, *(clip for clip in made if clip.voice not in _WATCHED), *unknown_clips],
        watch=watch or train,
        test=[clip for clip in recorded if clip.voice in tested],
        background=[*music, *(clip.samples for clip in said)],
    )


def _load_folders(folder: Path, limit: int | None) -> Data:
    splits = speech_commands.read_splits(folder, limit=limit)
    labels = sorted({clip.label for clip in splits.train})
    return Data(labels, splits.train, splits.validation, splits.test, splits.background)


class Items:
    """An epoch's items as energies: each drawn, changed and placed by a generator of its own, and kept for some epochs.

    Masks and warping are what differs between the epochs in which an item is kept; they are the cheaper half.
    """

    def __init__(self, data: Data, seed: int, renew: int) -> None:
        digits = [label for label in data.labels if label.partition(":")[2].isdigit()]
        letters = [label for label in data.labels if label not in digits and label != words.UNKNOWN]
        self._mixture = Mixture(data.train, [(0.5, digits), (0.38, letters), (0.12, [words.UNKNOWN])])
        self._index = {label: at for at, label in enumerate(data.labels)}
        third = len(data.background) // 2
        self._augment = CommandAugmentation(
            LENGTH, LEVEL, music=data.background[:third], others=data.background[third:]
        )
        self._seed, self._renew = seed, renew
        self._round = -1
        self._kept: dict[int, tuple[Tensor, int]] = {}

    def get(self, model: SoundClassifier, epoch: int, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """The energies [items, bands, frames] and the labels' numbers [items] of some items of an epoch."""
        at = (epoch - 1) // self._renew
        if at != self._round:
            self._round, self._kept = at, {}
        missing = [int(index) for index in indices if int(index) not in self._kept]
        if missing:
            made = [self.make(at, index) for index in missing]
            audio = torch.from_numpy(np.stack([samples for samples, _ in made]))
            with torch.no_grad():
                features = model.front(audio.to(model.front.mel.device)).half().cpu()
            for row, (index, (_, label)) in enumerate(zip(missing, made, strict=True)):
                self._kept[index] = features[row].clone(), label
        found = [self._kept[int(index)] for index in indices]
        return torch.stack([features for features, _ in found]).float(), torch.tensor(
            [label for _, label in found]
        )

    def make(self, at: int, index: int) -> tuple[Samples, int]:
        """The samples [LENGTH] and the label's number of one item of a round of epochs."""
        rng = item_rng(self._seed, at, index)
        clip = self._mixture.draw(rng)
        samples = cut_word(clip.samples, rng) if clip.label == words.UNKNOWN else trim(clip.samples)
        return self._augment(samples, rng), self._index[clip.label]


def train_one_epoch(
    run: Run,
    model: SoundClassifier,
    optimizer: torch.optim.Optimizer,
    items: Items,
    batches: GlobalBatches,
    epoch: int,
) -> dict[str, float]:
    """Take an epoch's steps; returns the mean loss."""
    model.train()
    loss_of = Average()
    for batch in run.track(batches.epoch(epoch), f"epoch {epoch}", len(batches)):
        features, target = (part.to(run.device) for part in items.get(model, epoch, batch.indices))
        draws = item_uniforms(run.seed, epoch, batch.indices, spectrum.DRAWS).astype(np.float32)
        with run.autocast():
            logits = model.classify_features(spectrum.alter(features, torch.from_numpy(draws).to(run.device)))
            losses = nn.functional.cross_entropy(logits.float(), target, reduction="sum", label_smoothing=0.1)
        step(run, model, optimizer, losses / batch.global_size, clip_norm=5.0)
        loss_of.add(losses.detach(), len(batch))
    return {"loss": loss_of.value(run)}


def prepare(clips: Sequence[Clip]) -> NDArray[np.float32]:
    """Bring clips into the windows that are served: [clips, LENGTH]."""
    return np.stack([place(trim(clip.samples), LENGTH, LEVEL) for clip in clips])


def predict(
    model: nn.Module, audio: NDArray[np.float32], device: torch.device, batch: int = 128
) -> NDArray[np.float32]:
    """Logits [items, labels] of windows [items, LENGTH]."""
    model.eval()
    with torch.no_grad():
        parts = [
            model(torch.from_numpy(audio[at : at + batch]).to(device)).float().cpu().numpy()
            for at in range(0, len(audio), batch)
        ]
    return np.concatenate(parts)


def evaluate(
    model: nn.Module, audio: NDArray[np.float32], target: NDArray[np.int64], run: Run
) -> dict[str, float]:
    """Accuracy and loss on clips that are not trained on."""
    logits = torch.from_numpy(predict(model, audio, run.device))
    truth = torch.from_numpy(target)
    return {
        "accuracy": float((logits.argmax(1) == truth).double().mean()),
        "loss": float(nn.functional.cross_entropy(logits, truth)),
    }


def train(run: Run, data: Data) -> tuple[SoundClassifier, Fitted]:
    """Train a model as the arguments say."""
    arguments = run.arguments
    model = wrap(SoundClassifier(arguments.body, len(data.labels), LENGTH, width=arguments.width), run)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=arguments.learning_rate, weight_decay=arguments.weight_decay
    )
    items = Items(data, run.seed, arguments.renew)
    count = min(arguments.items, arguments.limit or arguments.items)
    batches = GlobalBatches(count, arguments.batch_size, run.seed, run)
    index = {label: at for at, label in enumerate(data.labels)}
    watched, target = prepare(data.watch), np.array([index[clip.label] for clip in data.watch])
    fitted = fit(
        run,
        model,
        optimizer,
        train_one_epoch=lambda epoch: train_one_epoch(run, model, optimizer, items, batches, epoch),
        evaluate=lambda: evaluate(model, watched, target, run),
        epochs=arguments.epochs,
        patience=arguments.patience,
        metric="loss",
        better="lower",
        schedule=cosine(0.1),
    )
    return model, fitted


def judge(model: nn.Module, data: Data, device: torch.device) -> list[dict[str, Any]]:
    """What the model says of every clip of the test voices, one row each."""
    if not data.test:
        return []
    logits = predict(model, prepare(data.test), device)
    rows = []
    for clip, scores in zip(data.test, logits, strict=True):
        order = np.argsort(scores)[::-1]
        rows.append(
            {
                "voice": clip.voice,
                "source": clip.source,
                "name": clip.name,
                "label": clip.label,
                "answer": data.labels[order[0]],
                "second": data.labels[order[1]],
                "score": float(torch.softmax(torch.from_numpy(scores), 0)[int(order[0])]),
            }
        )
    return rows


def is_right(row: dict[str, Any]) -> bool:
    """Whether the command is the one that was said; which language it was taken for does not count."""
    return bool(row["label"].partition(":")[2] == row["answer"].partition(":")[2])


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, tuple[int, int]]]:
    """(right, all) of digits and letters, by voice and language."""
    found: dict[str, dict[str, tuple[int, int]]] = {"digits": {}, "letters": {}}
    for row in rows:
        language, _, command = row["label"].partition(":")
        kind = "digits" if command.isdigit() else "letters"
        key = f"{row['voice']} {language}"
        right, count = found[kind].get(key, (0, 0))
        found[kind][key] = (right + is_right(row), count + 1)
    return found


def main(arguments: argparse.Namespace) -> None:
    """Train, judge on the voices left out, write what was found."""
    with start(arguments, RECIPE) as run:
        data = load_data(run)
        run.say(
            f"{len(data.train)} clips to train on, {len(data.watch)} to watch, {len(data.test)} to test on"
        )
        model, fitted = train(run, data)
        if run.is_main:
            rows = judge(model, data, run.device)
            for kind, voices in summarise(rows).items():
                for voice, (right, count) in voices.items():
                    run.say(f"{kind:8}{voice:16}{right}/{count} = {right / count:.3f}")
            result = {
                "labels": data.labels,
                "best": fitted.best,
                "duration_s": fitted.duration_s,
                "rows": rows,
            }
            (run.out / "result.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    launch(main, get_args_parser())
