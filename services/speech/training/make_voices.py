"""Synthesised voices for training: digits and letters in five languages, spoken by free synthesisers.

    make voices                                                            # everything, into <state>/datasets/voices
    .venv-training/bin/python -m services.speech.training.make_voices --engines espeak-ng,flite --out /tmp/voices

Needs espeak-ng, flite and festival on the PATH and `sensorium data pull kokoro`; the releases that the shipped models were
trained with are the ones that the `package` of each engine names. What is there already is not made again, so that an
interrupted run goes on. These voices are only ever trained on, never tested on.

Written: `<out>/<engine>/<voice>/<language>/<command>-<take>.flac` at 8 kHz, trimmed, and `voices.json` (counts, packages,
one digest over all samples).
"""

import argparse
import hashlib
import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from services.speech.pipeline.command import RATE_HZ, to_8k, trim
from services.speech.training import words
from services.speech.training.voices.kokoro import Kokoro
from services.speech.training.voices.program import Espeak, Festival, Flite
from shared.settings import state_dir

# How many voices of an engine speak a command, and how often each (at another rate and pitch).
_ESPEAK_VOICES = 48
_TAKES = {"espeak-ng": 1, "flite": 3, "festival": 3, "kokoro": 1}


def get_args_parser() -> argparse.ArgumentParser:
    """Describe the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=state_dir() / "datasets", help="where Kokoro's packages are unpacked"
    )
    parser.add_argument("--out", type=Path, help="default: <data>/voices")
    parser.add_argument("--engines", default="espeak-ng,flite,festival,kokoro")
    parser.add_argument("--languages", default="en,es,fr,it,ru")
    parser.add_argument("--kokoro-voices", type=int, default=10, help="voices of Kokoro per digit")
    parser.add_argument("--kokoro-letter-voices", type=int, default=2, help="voices of Kokoro per letter")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def plan(engine: Any, arguments: argparse.Namespace) -> Iterator[tuple[str, str, str, int]]:
    """Yield (language, command, voice, take) of what an engine is to say: digits first, a voice of each language in turn."""
    languages = arguments.languages.split(",")
    for digits in (True, False):
        most = _ESPEAK_VOICES
        if engine.name == "kokoro":
            most = arguments.kokoro_voices if digits else arguments.kokoro_letter_voices
        for at in range(most):
            for language, command in words.commands():
                voices = engine.voices(language)
                if language in languages and command.isdigit() is digits and at < len(voices):
                    for take in range(_TAKES[engine.name]):
                        yield language, command, voices[at], take


def make(engine: Any, arguments: argparse.Namespace, out: Path) -> int:
    """Let an engine say all that is missing; returns how many clips it has then."""
    count, made, began_s = 0, 0, time.monotonic()
    for language, command, voice, take in plan(engine, arguments):
        path = out / engine.name / voice / language / f"{command}-{take}.flac"
        count += 1
        if path.exists():
            continue
        rng = np.random.default_rng(
            [arguments.seed, zlib.crc32(f"{engine.name}/{voice}/{language}/{command}/{take}".encode())]
        )
        text = words.spoken(language, command)
        sound = (
            engine.say(text, voice, language, rng)
            if engine.name == "kokoro"
            else engine.say(text, voice, rng)
        )
        samples = _fit(*sound)
        if samples is None:
            print(f"{path}: left out, nothing is heard")
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        soundfile.write(part, samples, RATE_HZ, format="FLAC", subtype="PCM_16")
        part.replace(path)
        made += 1
        if made % 200 == 0:
            print(f"{engine.name}: {made} made, {(time.monotonic() - began_s) / made:.2f} s each", flush=True)
    return count


def _fit(samples: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32] | None:
    fitted = to_8k(np.asarray(samples, np.float32), rate_hz)
    peak = float(np.abs(fitted).max(initial=0.0))
    if peak < 1e-3:
        return None
    return trim(np.float32(0.7 / peak) * fitted)


def digest(out: Path) -> str:
    """One SHA-256 over the names and samples of all clips."""
    whole = hashlib.sha256()
    for path in sorted(out.rglob("*.flac")):
        samples, _ = soundfile.read(path, dtype="int16")
        whole.update(str(path.relative_to(out)).encode() + samples.tobytes())
    return whole.hexdigest()


def main(arguments: argparse.Namespace) -> None:
    """Make what is missing, then write down what is there."""
    out = arguments.out or arguments.data / "voices"
    counts, packages = {}, {}
    for name in arguments.engines.split(","):
        engine = Kokoro(arguments.data / "kokoro") if name == "kokoro" else {
            "espeak-ng": Espeak, "flite": Flite, "festival": Festival
        }[name]()  # fmt: skip
        counts[name] = make(engine, arguments, out)
        packages[name] = engine.package
        print(f"{name}: {counts[name]} clips", flush=True)
    (out / "voices.json").write_text(
        json.dumps({"clips": counts, "packages": packages, "sha256": digest(out)}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main(get_args_parser().parse_args())
