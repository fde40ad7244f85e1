"""Trains the model that tells speech, music and noise apart, five times over, and makes the artifact that is served.

    sensorium data pull
    # into runs/sounds/artifact
    .venv-training/bin/python -m services.speech.training.release_sounds
    # the one that ships
    .venv-training/bin/python -m services.speech.training.release_sounds --into services/speech/models
    .venv-training/bin/python -m services.speech.training.release_sounds --limit 60 --epochs 1 --folds 1 --out /tmp/quick

Every fold holds out other voices, pieces and sounds, so that each recording is judged once by a network that never heard it;
what is served is the network of --fold. In --out: a folder of each fold, the float32 export, the answers that parity is
checked with, the forms that were tried; in the state folder the held-out clips, where `sensorium models compare` finds them.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from services.speech.pipeline.command import RATE_HZ
from services.speech.training import train_sounds
from services.speech.training.card_sounds import describe_card
from services.speech.training.conditions import change_all
from services.speech.training.forms import PRECISIONS, REFERENCE, allow, make_forms, run_graph
from services.speech.training.train_sounds import FOLDS, HOP, LABELS, LENGTH, LEVEL, Trained
from shared.inference.artifact import Artifact
from shared.inference.heldout import write_heldout
from shared.inference.manifest import Data as Source
from shared.inference.manifest import Gate, HeldOut, Made, Quality
from shared.settings import state_dir
from shared.training.arguments import parse_count
from shared.training.card.files import make_files
from shared.training.evaluation.calibration import fit_temperature
from shared.training.export import fold_temperature
from shared.training.provenance import collect_made, digest_data
from shared.training.release import add_into, deliver, draft_graph, make_golden, release
from shared.training.run import Run, launch, start

MODULE = "services.speech.training.release_sounds"
CATALOG = Path(__file__).parents[1] / "models" / "catalog.toml"
NAME = "sounds"
PREPROCESSING = "audio-8k/1"
MAX_AUDIO_S = 60.0
SOURCES = (
    *("asterisk-en", "asterisk-es", "asterisk-es-co", "asterisk-fr", "asterisk-fr-armelle", "asterisk-it"),
    *("asterisk-it-menardi", "asterisk-ru", "asterisk-moh", "freedesktop-sounds"),
)
GATES = {"accuracy": Gate(min=0.95), "macro_f1": Gate(min=0.94)}
# Per kind, clips that versions are compared on.
_KEPT_CLIPS = 60


def train_folds(arguments: argparse.Namespace) -> dict[int, Trained]:
    """Train the folds that are asked for, the served one among them; a finished one is only answered again."""
    folds = [arguments.fold, *(fold for fold in range(FOLDS) if fold != arguments.fold)][: arguments.folds]
    own = {key: value for key, value in vars(arguments).items() if key not in ("into", "folds")}
    return {
        fold: train_sounds.main(
            argparse.Namespace(**{**own, "fold": fold, "out": arguments.out / f"fold-{fold}"})
        )
        for fold in folds
    }


def keep_held_out(trained: Trained) -> HeldOut:
    """Write the served fold's clips as callers would send them, to where versions are compared."""
    items = []
    for label in LABELS:
        for number, clip in enumerate(
            [clip for clip in trained.data.test if clip.label == label][:_KEPT_CLIPS]
        ):
            content = io.BytesIO()
            # A minute of a piece is plenty.
            soundfile.write(content, clip.samples[: 20 * RATE_HZ], RATE_HZ, format="FLAC", subtype="PCM_16")
            items.append(
                {
                    "file": f"{label}-{number:03d}.flac",
                    "content": content.getvalue(),
                    "label": label,
                    "slice": clip.voice,
                }
            )
    name = f"speech, music and noise never heard, fold of {', '.join(trained.data.never[:8])} and others"
    sha256 = write_heldout(state_dir(), "speech", NAME, items, name=name, rpc="RecognizeCommand")
    return HeldOut(name=name, sha256=sha256, items=len(items))


def make_artifact(run: Run, folds: dict[int, Trained], made: Made, models: Path) -> Artifact:
    """Calibrate, export, measure, and write the artifact's folder."""
    served, whole = run.arguments.fold, run.arguments.limit is None
    own = folds[served]
    watched, owners = train_sounds.prepare(own.data.watch)
    target = np.array([LABELS.index(own.data.watch[owner].label) for owner in owners], np.int64)
    temperature = fit_temperature(train_sounds.predict(own.network, watched, run.device), target)
    fold_temperature(own.network.body.head, temperature)
    own.logits /= np.float32(temperature)
    rows = own.windows
    telephone = change_all(list(rows), "telephone")
    inputs = np.concatenate([rows, np.stack(telephone)])
    truth = np.concatenate([own.truth, own.truth])
    forms = make_forms(
        run,
        own.network,
        inputs,
        lambda logits: logits.argmax(1) == truth,
        watched,
        at_least=1000 if whole else 1,
    )
    graph = forms.contents[forms.chosen]
    golden_rows = np.round(
        rows[[int(np.flatnonzero(own.truth == label)[0]) for label in sorted(set(own.truth))]], 3
    )
    golden = make_golden(own.network, {"audio": golden_rows})
    off = float(np.abs(run_graph(graph, golden_rows) - golden["model/out/logits"]).max())
    card, pooled = describe_card(folds, served, forms, made, temperature)
    text, plots = make_files(card)
    held = keep_held_out(own) if whole else HeldOut(name="a part", sha256="0" * 64, items=len(own.data.test))
    return release(
        models,
        catalog=CATALOG,
        name=NAME,
        graph=draft_graph(graph, precision=PRECISIONS[forms.chosen], max_batch_size=32),
        golden=golden,
        labels=LABELS,
        constants={
            "sample_rate": RATE_HZ,
            "samples": LENGTH,
            "hop_samples": HOP,
            "level": LEVEL,
            "max_audio_s": MAX_AUDIO_S,
        },
        preprocessing=PREPROCESSING,
        made=made,
        quality=Quality(
            held_out=held, metrics=pooled.to_manifest(), gates=GATES if whole else {}, parity=forms.parity
        ),
        card=text,
        plots=plots,
        reference=forms.contents[REFERENCE],
        tolerance=allow(off),
    )


def digest_sources(data: Path, names: Sequence[str]) -> list[Source]:
    """The digests of the data sets that are read; of each, all its files but those of `sensorium data` itself."""

    def find(folder: Path) -> list[Path]:
        return [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]

    return [digest_data(name, find(data / name), data / name) for name in names if (data / name).is_dir()]


def get_args_parser() -> argparse.ArgumentParser:
    """The training's options, and where the artifact goes."""
    parser = train_sounds.get_args_parser(__doc__)
    group = parser.add_argument_group("release")
    group.add_argument("--folds", type=parse_count, default=FOLDS, metavar="N", help="folds that are trained")
    add_into(group)
    return parser


def main(arguments: argparse.Namespace) -> Artifact | None:
    """Train, measure and write; returns the artifact in the first process."""
    arguments.out = arguments.out or Path("runs") / NAME
    made = collect_made(MODULE, get_args_parser(), arguments, digest_sources(arguments.data, SOURCES))
    folds = train_folds(arguments)
    with start(arguments, train_sounds.RECIPE) as run:
        if not run.is_main:
            return None
        artifact, size = deliver(make_artifact(run, folds, made, run.out / "artifact"), arguments.into)
        shown = {name: round(metric.value, 4) for name, metric in artifact.manifest.quality.metrics.items()}
        run.say(f"{artifact.folder}: {size:,} bytes, {json.dumps(shown)}")
        return artifact


if __name__ == "__main__":
    launch(main, get_args_parser())
