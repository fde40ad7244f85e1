"""Synthesisers that are programs of the machine: espeak-ng, flite, festival. One run of the program speaks one command.

Lives here: how each is asked, which of its voices speak which language, which release is expected. Not here: what is
said (`words`), and neural voices (`kokoro`).
"""

import io
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from shared.training.errors import DataError

Sound = tuple[NDArray[np.float32], int]

# A synthesiser that hangs on a word is a broken installation.
_LIMIT_S = 30.0


class Espeak:
    """eSpeak NG: formant synthesis, each language with the timbres of its variants."""

    name = "espeak-ng"
    package = "espeak-ng=1.51+dfsg-10+deb12u2"
    # Timbres that sound like people; left out are whispers, robots and doubles.
    # fmt: off
    timbres = (
        "m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5", "klatt", "klatt2", "klatt4",
        "adam", "anika", "announcer", "antonio", "belinda", "benjamin", "boris", "caleb", "david", "ed",
        "edward", "gustave", "iven", "iven3", "john", "kaukovalta", "linda", "marcelo", "max", "michel",
        "miguel", "norbert", "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby",
        "steph", "steph3", "travis", "victor", "zac", "Alicia", "Andrea", "Andy", "Annie", "Denis", "Diogo",
        "Gene", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael", "Mike", "Nguyen",
    )
    # fmt: on
    dialects: Mapping[str, tuple[str, ...]] = {
        "en": ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan"),
        "es": ("es-419", "es"),
        "fr": ("fr-fr", "fr-be", "fr-ch"),
        "it": ("it",),
        "ru": ("ru", "ru-lv"),
    }

    def voices(self, language: str) -> list[str]:
        """Name the voices that speak a language, as `<dialect>+<timbre>`."""
        dialects = self.dialects[language]
        return [f"{dialects[at % len(dialects)]}+{timbre}" for at, timbre in enumerate(self.timbres)]

    def say(self, text: str, voice: str, rng: np.random.Generator) -> Sound:
        """Speak a text at a rate and pitch drawn from `rng`."""
        rate, pitch = rng.integers(110, 190), rng.integers(25, 75)
        command = ["espeak-ng", "-v", voice, "-s", str(rate), "-p", str(pitch), "--stdout", text]
        return _read(run_program(command, self.package))


class Flite:
    """Flite's English voices: one of diphones, three statistical ones made from people's recordings."""

    name = "flite"
    package = "flite=2.2-5"

    def voices(self, language: str) -> list[str]:
        """Name the voices that speak a language; none but English."""
        return ["kal16", "awb", "rms", "slt"] if language == "en" else []

    def say(self, text: str, voice: str, rng: np.random.Generator) -> Sound:
        """Speak a text at a rate drawn from `rng`."""
        stretch = rng.uniform(0.85, 1.3)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "said.wav")
            rate = f"duration_stretch={stretch:.3f}"
            run_program(["flite", "-voice", voice, "--setf", rate, "-t", text, "-o", str(path)], self.package)
            return _read(path.read_bytes())


class Festival:
    """Festival's voices, made from people's recordings: English, Italian and Russian."""

    name = "festival"
    package = (
        "festival=1:2.5.0-9 festvox-italp16k=2.0+debian0-6 festvox-itapc16k=2.0+debian0-6 festvox-ru=0.5+dfsg-6 "
        "festvox-kdlpc16k=1.4.0-6.1 festvox-us-slt-hts=0.2010.10.25-4"
    )
    _by_language: Mapping[str, list[str]] = {
        "en": ["ked_diphone", "cmu_us_slt_arctic_hts"],
        "it": ["lp_diphone", "pc_diphone"],
        "ru": ["msu_ru_nsh_clunits"],
    }

    def voices(self, language: str) -> list[str]:
        """Name the voices that speak a language."""
        return self._by_language.get(language, [])

    def say(self, text: str, voice: str, rng: np.random.Generator) -> Sound:
        """Speak a text at a rate drawn from `rng`."""
        stretch = rng.uniform(0.85, 1.3)
        # Italian voices read Latin-1, the Russian one UTF-8.
        encoding = "latin-1" if voice in ("lp_diphone", "pc_diphone") else "utf-8"
        with tempfile.TemporaryDirectory() as folder:
            path, source = Path(folder, "said.wav"), Path(folder, "text")
            source.write_bytes(text.encode(encoding))
            run_program(
                [
                    *("text2wave", "-eval", f"(voice_{voice})"),
                    *("-eval", f"(Parameter.set 'Duration_Stretch {stretch:.3f})"),
                    *("-o", str(path), str(source)),
                ],
                self.package,
            )
            return _read(path.read_bytes())


def run_program(command: list[str], package: str) -> bytes:
    """Run a synthesiser; returns what it wrote to its standard output.

    Raises:
        DataError: it is not installed, or failed.
    """
    if shutil.which(command[0]) is None:
        raise DataError(
            command[0],
            expected="the program on the PATH",
            got="none",
            advice=f"install it: apt-get install {package}",
        )
    ended = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False)
    if ended.returncode:
        raise DataError(
            " ".join(command),
            expected="a spoken word",
            got=f"exit status {ended.returncode}: {ended.stderr.decode(errors='replace').strip()[-200:]}",
            advice=f"check the installation of {package}",
        )
    return ended.stdout


def _read(content: bytes) -> Sound:
    # eSpeak cannot know the length when it writes to a pipe; libsndfile reads such a file to its end.
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    return samples.mean(axis=1), int(rate)
