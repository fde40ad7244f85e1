"""One request of each typed rpc, of the kind and size that callers send: what capacity is measured with."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import Message
from PIL import Image
from sensorium.nlp.v1 import nlp_service_pb2 as nlp
from sensorium.speech.v1 import speech_service_pb2 as speech
from sensorium.vision.v1 import vision_service_pb2 as vision

from cli.pull.samples import fetch_sample

SERVICES = {
    "vision": "sensorium.vision.v1.VisionService",
    "nlp": "sensorium.nlp.v1.NlpService",
    "speech": "sensorium.speech.v1.SpeechService",
}
# 13 and 220 words: a sentence, and about as much as MiniLM reads.
_SENTENCE = "The story is thin, but the acting is wonderful and the ending is not sentimental."
_LONG = " ".join([_SENTENCE] * 16)
_LABELS = ("about animals", "about money", "about the weather")
# A camera's picture of 12 megapixels; the quality that phones save with.
_LARGE, _QUALITY = (4000, 3000), 90


@dataclass(frozen=True)
class Case:
    """A call that is measured. `name` is the rpc's, with a word after a slash where there are several of one rpc."""

    name: str
    request: str
    """What is sent, in words."""
    service: str
    message: Message
    replies: type[Message]

    @property
    def method(self) -> str:
        """As in the path of the call."""
        return f"{SERVICES[self.service]}/{self.name.partition('/')[0]}"

    @property
    def body(self) -> bytes:
        """The encoded request."""
        return self.message.SerializeToString()

    @property
    def said(self) -> str:
        """The request in words, with its size."""
        size = len(self.body)
        return f"{self.request}, " + (f"{size} B" if size < 1000 else f"{size / 1000:.0f} kB")

    def check(self, reply: bytes) -> None:
        """Exits with a line if a reply holds no answer: the figures would be of a refusal."""
        said = self.replies.FromString(reply)
        for result in getattr(said, "results", ()):
            if result.status.code:
                raise SystemExit(f"{self.name}: {result.status.message}")


def make_jpeg(path: Path, size: tuple[int, int] | None = None) -> bytes:
    """A picture as JPEG, in its own size or another."""
    picture = Image.open(path).convert("RGB")
    encoded = io.BytesIO()
    (picture if size is None else picture.resize(size, Image.Resampling.BICUBIC)).save(
        encoded, "JPEG", quality=_QUALITY
    )
    return encoded.getvalue()


def make_clip(path: Path, duration_s: float) -> bytes:
    """A clip of that length as WAV: the start of a recording, over again where it is shorter."""
    with wave.open(str(path)) as source:
        parameters, frames = source.getparams(), source.readframes(source.getnframes())
    size = int(duration_s * parameters.framerate) * parameters.sampwidth * parameters.nchannels
    encoded = io.BytesIO()
    with wave.open(encoded, "wb") as target:
        target.setparams(parameters)
        target.writeframes((frames * (size // len(frames) + 1))[:size])
    return encoded.getvalue()


def make_cases(state: Path) -> list[Case]:
    """All cases, in the order of the table; samples come out of `<state>/samples`."""
    return [*_see(state), *_read(), *_hear(state)]


def _see(state: Path) -> Iterator[Case]:
    cat, portrait, page = (fetch_sample(name, state).path for name in ("cat", "portrait", "page"))
    photo = vision.Image(content=make_jpeg(cat))
    said = "photo of 451 x 300, JPEG"

    yield Case(
        "ClassifyImage",
        said,
        "vision",
        vision.ClassifyImageRequest(images=[photo]),
        vision.ClassifyImageResponse,
    )
    yield Case(
        "ClassifyImage/12MP",
        "photo of 12 megapixels, JPEG",
        "vision",
        vision.ClassifyImageRequest(images=[vision.Image(content=make_jpeg(cat, _LARGE))]),
        vision.ClassifyImageResponse,
    )
    yield Case(
        "EmbedImage",
        said,
        "vision",
        vision.EmbedImageRequest(images=[photo]),
        vision.EmbedImageResponse,
    )
    face = vision.Image(content=make_jpeg(portrait))
    for rpc, request, replies in (
        ("DetectObjects", vision.DetectObjectsRequest(images=[face]), vision.DetectObjectsResponse),
        ("DetectFaces", vision.DetectFacesRequest(images=[face]), vision.DetectFacesResponse),
    ):
        yield Case(rpc, "portrait of 512 x 512, JPEG", "vision", request, replies)
    yield Case(
        "ReadText",
        "five lines of print, 384 x 191, PNG",
        "vision",
        vision.ReadTextRequest(images=[vision.Image(content=page.read_bytes())]),
        vision.ReadTextResponse,
    )
    yield Case(
        "ExplainImage",
        f"{said}; 64 runs",
        "vision",
        vision.ExplainImageRequest(images=[photo], max_runs=64),
        vision.ExplainImageResponse,
    )


def _read() -> Iterator[Case]:
    yield Case(
        "EmbedText", "a sentence", "nlp", nlp.EmbedTextRequest(texts=[_SENTENCE]), nlp.EmbedTextResponse
    )
    yield Case(
        "EmbedText/long", "220 words", "nlp", nlp.EmbedTextRequest(texts=[_LONG]), nlp.EmbedTextResponse
    )
    yield Case(
        "ClassifyText",
        "a sentence; sentiment",
        "nlp",
        nlp.ClassifyTextRequest(texts=[_SENTENCE]),
        nlp.ClassifyTextResponse,
    )
    yield Case(
        "ClassifyText/topics",
        "220 words; newsgroups",
        "nlp",
        nlp.ClassifyTextRequest(model="topics", texts=[_LONG]),
        nlp.ClassifyTextResponse,
    )
    yield Case(
        "ClassifyText/labels",
        "a sentence; three labels",
        "nlp",
        nlp.ClassifyTextRequest(texts=[_SENTENCE], candidate_labels=_LABELS),
        nlp.ClassifyTextResponse,
    )
    yield Case(
        "DetectLanguage",
        "a sentence",
        "nlp",
        nlp.DetectLanguageRequest(texts=[_SENTENCE]),
        nlp.DetectLanguageResponse,
    )
    yield Case(
        "ExplainText",
        "a sentence; 64 runs",
        "nlp",
        nlp.ExplainTextRequest(texts=[_SENTENCE], max_runs=64),
        nlp.ExplainTextResponse,
    )


def _hear(state: Path) -> Iterator[Case]:
    recording = fetch_sample("beckett", state).path

    def clip(duration_s: float) -> speech.Audio:
        return speech.Audio(content=make_clip(recording, duration_s))

    for duration_s in (5, 30):
        yield Case(
            f"Transcribe/{duration_s}s",
            f"clip of {duration_s} s, half of it speech",
            "speech",
            speech.TranscribeRequest(audio=clip(duration_s)),
            speech.TranscribeResponse,
        )
    yield Case(
        "DetectSpeech",
        "clip of 10 s",
        "speech",
        speech.DetectSpeechRequest(audio=clip(10)),
        speech.DetectSpeechResponse,
    )
    yield Case(
        "EmbedSpeaker",
        "clip of 10 s, half of it speech",
        "speech",
        speech.EmbedSpeakerRequest(audio=clip(10)),
        speech.EmbedSpeakerResponse,
    )
    yield Case(
        "RecognizeCommand",
        "clip of 1 s",
        "speech",
        speech.RecognizeCommandRequest(audio=clip(1)),
        speech.RecognizeCommandResponse,
    )
