"""Trains the model of spoken digits and letters, judges it on voices never heard, and makes the artifact that is served.

    sensorium data pull && make voices
    # into runs/commands/artifact
    .venv-training/bin/python -m services.speech.training.release_commands
    # the one that ships
    .venv-training/bin/python -m services.speech.training.release_commands --into services/speech/models
    # a network for each voice left out
    .venv-training/bin/python -m services.speech.training.release_commands --folds 6
    .venv-training/bin/python -m services.speech.training.release_commands --limit 300 --epochs 1 --out /tmp/quick

A network for each fold leaves some voices out and is judged by them; the one that is served has heard them all, and is
judged by voices that are in no training. In --out: a folder of each, the float32 export, the answers that parity is checked
with, the forms that were tried; in the state folder the clips that `sensorium models compare` compares versions on.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from services.speech.pipeline.command import RATE_HZ
from services.speech.training import train_commands, words
from services.speech.training.card_commands import (
    DIGIT_NAMES,
    LETTER_NAMES,
    Judged,
    commands_of,
    count_voices,
    describe_card,
    gather,
    measure_commands,
)
from services.speech.training.conditions import CONDITIONS, change_all
from services.speech.training.data.clips import Clip
from services.speech.training.forms import PRECISIONS, REFERENCE, allow, make_forms, run_graph
from services.speech.training.release_sounds import PREPROCESSING, digest_sources
from services.speech.training.release_sounds import SOURCES as RECORDED
from services.speech.training.train_commands import (
    FOLDS,
    LENGTH,
    LEVEL,
    Trained,
    is_digit,
    numbers,
    prepare,
    train_folds,
)
from shared.inference.artifact import Artifact
from shared.inference.heldout import write_heldout
from shared.inference.manifest import Gate, HeldOut, Made, Quality
from shared.settings import state_dir
from shared.training.card.files import make_files
from shared.training.evaluation.calibration import fit_temperature
from shared.training.export import fold_temperature
from shared.training.provenance import collect_made
from shared.training.release import add_into, deliver, draft_graph, make_golden, release
from shared.training.run import Run, launch, start

MODULE = "services.speech.training.release_commands"
CATALOG = Path(__file__).parents[1] / "models" / "catalog.toml"
NAME = "commands"
MAX_AUDIO_S = 10.0
SOURCES = (*RECORDED, "klettres", "pocketsphinx", "voices")
GATES = {"accuracy": Gate(min=0.7), "language_said": Gate(min=0.85), "letters": Gate(min=0.2)}


def train_all(arguments: argparse.Namespace) -> tuple[list[Trained], Trained]:
    """Train the folds' networks and the one that is served; a finished one is only answered again."""
    own = argparse.Namespace(
        **{key: value for key, value in vars(arguments).items() if key not in ("into", "folds")}
    )
    folds = train_folds(own, arguments.folds)
    return folds, train_commands.main(argparse.Namespace(**{**vars(own), "out": arguments.out / "final"}))


def find_inputs(final: Trained) -> tuple[NDArray[np.float32], list[Clip]]:
    """Windows of clips in no training, under every condition, and the clip of each."""
    clips = final.data.test
    rows, owners = [], []
    for condition in CONDITIONS:
        changed = change_all([clip.samples for clip in clips], condition)
        rows.append(
            prepare([replace(clip, samples=samples) for samples, clip in zip(changed, clips, strict=True)])
        )
        owners += clips
    return np.concatenate(rows), owners


def keep_held_out(clips: Sequence[Clip]) -> HeldOut:
    """Write the clips in no training as callers would send them, to where versions are compared."""
    items = []
    for number, clip in enumerate(clips):
        content = io.BytesIO()
        soundfile.write(content, np.clip(clip.samples, -1, 1), RATE_HZ, format="FLAC", subtype="PCM_16")
        kind = "digits" if is_digit(clip.label) else "letters"
        items.append(
            {
                "file": f"{number:03d}.flac",
                "content": content.getvalue(),
                "label": clip.label.partition(":")[2],
                "slice": f"{kind}, {clip.voice}",
            }
        )
    name = "digits and letters of voices in no training: asterisk-prompt-es-co, klettres-data, pocketsphinx-testdata"
    sha256 = write_heldout(state_dir(), "speech", NAME, items, name=name, rpc="RecognizeCommand")
    return HeldOut(name=name, sha256=sha256, items=len(items))


def make_artifact(run: Run, folds: Sequence[Trained], final: Trained, made: Made, models: Path) -> Artifact:
    """Calibrate, export, measure, and write the artifact's folder."""
    whole = run.arguments.limit is None
    labels = words.labels()
    raw = gather(folds, final)
    # Voices left out say how sure the network may be of strangers; the one number is all that is taken from them.
    temperature = fit_temperature(raw.logits, numbers(raw.clips, labels))
    for trained in (*folds, final):
        fold_temperature(trained.network.body.head, temperature)
        trained.logits /= np.float32(temperature)
    judged: Judged = gather(folds, final)
    inputs, owners = find_inputs(final)
    names = (*DIGIT_NAMES[:-1], *LETTER_NAMES)
    truth = commands_of([clip.label for clip in owners], names)
    forms = make_forms(
        run,
        final.network,
        inputs,
        lambda logits: commands_of([labels[at] for at in logits.argmax(1)], names) == truth,
        prepare([clip for clip in final.data.train if clip.label != words.UNKNOWN][::17]),
        at_least=1000 if whole else 1,
    )
    graph = forms.contents[forms.chosen]
    # Words of half a second stand in silence, which packs well.
    golden_rows = np.round(prepare(sorted(final.data.test, key=lambda clip: len(clip.samples))[:4]), 3)
    golden = make_golden(final.network, {"audio": golden_rows})
    off = float(np.abs(run_graph(graph, golden_rows) - golden["model/out/logits"]).max())
    digits = measure_commands(judged.digits, DIGIT_NAMES)
    letters = measure_commands(judged.letters, LETTER_NAMES)
    metrics = {
        **digits.to_manifest(),
        "language_said": measure_commands(judged.digits.in_language, DIGIT_NAMES).accuracy.to_metric(),
        "letters": letters.accuracy.to_metric(),
        "letters_language_said": measure_commands(
            judged.letters.in_language, LETTER_NAMES
        ).accuracy.to_metric(),
    }
    metrics |= {f"digits {voice}": share.to_metric() for voice, share in count_voices(judged.digits).items()}
    text, plots = make_files(describe_card(folds, final, judged, forms, made, temperature))
    held = (
        keep_held_out(final.data.test)
        if whole
        else HeldOut(name="a part", sha256="0" * 64, items=len(judged.clips))
    )
    return release(
        models,
        catalog=CATALOG,
        name=NAME,
        graph=draft_graph(graph, precision=PRECISIONS[forms.chosen], max_batch_size=32),
        golden=golden,
        labels=labels,
        constants={"sample_rate": RATE_HZ, "samples": LENGTH, "level": LEVEL, "max_audio_s": MAX_AUDIO_S},
        preprocessing=PREPROCESSING,
        made=made,
        quality=Quality(held_out=held, metrics=metrics, gates=GATES if whole else {}, parity=forms.parity),
        card=text,
        plots=plots,
        reference=forms.contents[REFERENCE],
        tolerance=allow(off),
    )


def get_args_parser() -> argparse.ArgumentParser:
    """The training's options, and where the artifact goes."""
    parser = train_commands.get_args_parser(__doc__)
    group = parser.add_argument_group("release")
    group.add_argument(
        "--folds",
        type=int,
        choices=sorted(FOLDS),
        default=2,
        help="networks that leave voices out, to judge by them",
    )
    add_into(group)
    return parser


def main(arguments: argparse.Namespace) -> Artifact | None:
    """Train, measure and write; returns the artifact in the first process."""
    arguments.out = arguments.out or Path("runs") / NAME
    made = collect_made(
        MODULE,
        get_args_parser(),
        arguments,
        digest_sources(arguments.data, SOURCES),
        # Seventy-three digits: another machine's rounding turns one or two.
        tolerance={"accuracy": 0.04, "language_said": 0.04, "letters": 0.05},
    )
    folds, final = train_all(arguments)
    with start(arguments, train_commands.RECIPE) as run:
        if not run.is_main:
            return None
        artifact, size = deliver(make_artifact(run, folds, final, made, run.out / "artifact"), arguments.into)
        shown = {name: round(metric.value, 4) for name, metric in artifact.manifest.quality.metrics.items()}
        run.say(f"{artifact.folder}: {size:,} bytes, {json.dumps(shown)}")
        return artifact


if __name__ == "__main__":
    launch(main, get_args_parser())
