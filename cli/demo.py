"""`sensorium demo`: a whole mesh from start to stop, asked about one real input of each kind."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sensorium import Client, SensoriumError

from cli.failure import CommandError
from cli.pull.progress import show_progress
from cli.pull.samples import Sample, fetch_sample
from shared.inference.signature import OWN_KEYS
from shared.settings import state_dir

T = TypeVar("T")

_SAMPLES = ("cat", "page", "portrait", "beckett")
_PARAPHRASES = ("A cat is sleeping on the sofa.", "The kitten naps on the couch.")
_STRANGER = "The central bank raised interest rates."
_LABELS = ("about animals", "about money", "about the weather")
_REVIEW = "The story is thin, but the acting is wonderful and the ending is not sentimental."
_SPAM = "Congratulations!!! You have won a free prize, click here to claim your $1000 now"
_LANGUAGES = (
    "Où se trouve la gare, s'il vous plaît ?",
    "Mañana por la mañana salimos temprano.",
    "Сегодня хорошая погода.",
)
_READY = re.compile(r"ready at http://(\S+)")
_STOP_S = 60.0


def run_demo() -> int:
    """Runs it; 0 if every question that the pulled models allow was answered."""
    began_s = time.monotonic()
    state = state_dir()
    with show_progress() as progress:
        samples = {name: fetch_sample(name, state, progress) for name in _SAMPLES}
    with tempfile.TemporaryDirectory(prefix="sensorium-demo-") as folder:
        # A state folder of its own: a mesh that already runs is not disturbed. The models are shared.
        own = Path(folder)
        (own / "models").symlink_to(state / "models", target_is_directory=True)
        # Who signed them is to be known there, too.
        if (state / OWN_KEYS).exists():
            (own / OWN_KEYS).parent.mkdir(parents=True)
            (own / OWN_KEYS).symlink_to(state / OWN_KEYS)
        with _mesh(own) as address, Client(address, token=(own / "token").read_text().strip()) as client:
            print(f"mesh is ready at http://{address} after {time.monotonic() - began_s:.1f} s\n", flush=True)
            answered = _Questions(client).ask_all(samples)
    print(f"\ndone in {time.monotonic() - began_s:.1f} s")
    return 0 if answered else 1


class _Questions:
    """The questions; a question whose model is not there is said to be left out, any other failure counts."""

    def __init__(self, client: Client) -> None:
        self._client = client
        models = client.list_models()
        self._unserved = {
            rpc: f"{model.public_name}: {model.reason or model.state}"
            for model in models
            for rpc in model.default_for
            if not model.ready_replicas
        }
        self._ready = {model.public_name for model in models if model.ready_replicas}
        self._served = {rpc for model in models for rpc in model.default_for}
        self._good = True

    def ask_all(self, samples: dict[str, Sample]) -> bool:
        """Asks about all samples; whether none failed that could have been answered."""
        client = self._client
        cat, page, portrait, clip = (samples[name].path for name in _SAMPLES)
        labels = self._ask("photo", "ClassifyImage", lambda: client.classify_image(cat, top_k=3))
        if labels:
            for label in labels.labels:
                print(f"    {label.score:6.1%}  {label.label}")
        text = self._ask("scanned page", "ReadText", lambda: client.read_text(page))
        if text:
            for line in text.lines[:4]:
                print(f"    {line.text}")
        shown = self._ask("photo", "ExplainImage", lambda: client.explain_image(cat))
        if shown:
            print(
                f"    {shown.score:.1%} {shown.label}, {shown.base_score:.1%} with everything covered; for it speaks:"
            )
            for cells in draw_cells(shown.attributions):
                print(f"      {cells}")
        faces = self._ask("portrait", "DetectFaces", lambda: client.detect_faces(portrait))
        if faces:
            print(f"    {len(faces.faces)} face{'s' * (len(faces.faces) != 1)}")
        objects = self._ask("portrait", "DetectObjects", lambda: client.detect_objects(portrait))
        if objects:
            for found in objects.objects[:5]:
                print(f"    {found.score:6.1%}  {found.label}")
        self._ask_about_texts()
        said = self._ask("spoken clip", "Transcribe", lambda: client.transcribe(clip))
        if said:
            print(f"    {said.text}")
            expected = str(samples["beckett"].fields.get("transcript", ""))
            print(f"    word error rate {word_error_rate(expected, said.text):.1%} of: {expected}")
        speech = self._ask("spoken clip", "DetectSpeech", lambda: client.detect_speech(clip))
        if speech:
            print(f"    {speech.speech_s:.1f} s of speech in {speech.audio_s:.1f} s")
        return self._good

    def _ask_about_texts(self) -> None:
        client = self._client
        vectors = self._ask("sentences", "EmbedText", lambda: client.embed_text([*_PARAPHRASES, _STRANGER]))
        if vectors:
            one, other, stranger = vectors
            print(f"    {one.similarity(other):6.2f}  {_PARAPHRASES[0]} / {_PARAPHRASES[1]}")
            print(f"    {one.similarity(stranger):6.2f}  {_PARAPHRASES[0]} / {_STRANGER}")
        compared = "ClassifyText/candidate_labels"
        labels = self._ask("a sentence", compared, lambda: client.classify_text(_STRANGER, _LABELS))
        if labels:
            print(f"    {_STRANGER} is {labels.label}")
        mood = self._ask("a review", "ClassifyText", lambda: client.classify_text(_REVIEW))
        if mood:
            print(f"    {mood.score:6.1%}  {mood.label}: {_REVIEW}")
        why = self._ask("a review", "ExplainText", lambda: client.explain_text(_REVIEW))
        if why:
            strongest = sorted(why.attributions, key=lambda one: -abs(one.attribution))[:4]
            print(f"    {why.label}: " + ", ".join(f"{one.attribution:+.2f} {one.text}" for one in strongest))
        if "nlp/spam" in self._ready:
            mail = self._ask("a mail", "ClassifyText", lambda: client.classify_text(_SPAM, model="spam"))
            if mail:
                print(f"    {mail.score:6.1%}  {mail.label}: {_SPAM}")
        languages = self._ask("sentences", "DetectLanguage", lambda: client.detect_language(list(_LANGUAGES)))
        for text, found in zip(_LANGUAGES, languages or (), strict=False):
            print(f"    {found.score:6.1%}  {found.language}: {text}")

    def _ask(self, what: str, rpc: str, question: Callable[[], T]) -> T | None:
        if rpc in self._unserved or rpc not in self._served:
            print(
                f"{what}, {rpc}: left out, {self._unserved.get(rpc, 'no model is its default')}", flush=True
            )
            return None
        began_s = time.monotonic()
        try:
            answer = question()
        except SensoriumError as error:
            self._good = False
            print(f"{what}, {rpc}: {error}", flush=True)
            return None
        print(f"{what}, {rpc}: {(time.monotonic() - began_s) * 1e3:.0f} ms", flush=True)
        return answer


def draw_cells(attributions: Sequence[Sequence[float]]) -> list[str]:
    """A grid of attributions in characters: the darker, the more a cell speaks for the label; `-` speaks against it."""
    most = max((value for row in attributions for value in row), default=0.0) or 1.0
    shades = " .:*#"
    return [
        "".join("-" if value < -0.25 * most else shades[round(4 * max(value, 0.0) / most)] for value in row)
        for row in attributions
    ]


def word_error_rate(expected: str, heard: str) -> float:
    """Words to insert, leave out or replace to get from `heard` to `expected`, as a share of the expected ones."""
    wanted, got = (re.findall(r"[a-z0-9']+", text.lower()) for text in (expected, heard))
    row = list(range(len(got) + 1))
    for number, word in enumerate(wanted, 1):
        before, row[0] = row[0], number
        for at, other in enumerate(got, 1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (word != other))
    return row[-1] / max(1, len(wanted))


@contextmanager
def _mesh(state: Path) -> Iterator[str]:
    """A mesh on a free port; its address. Its stderr is the user's."""
    command = [sys.executable, "-P", "-m", "cli", "up", "--port", "0", "--state-dir", str(state)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        # In a session of its own: an interrupt is ours to pass on, once.
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
        start_new_session=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        ready = _READY.search(line)
        if ready is None:
            process.wait(_STOP_S)
            raise CommandError("the mesh did not start; the reason stands above")
        yield ready[1]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
