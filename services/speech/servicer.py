"""SpeechService: validate → decode → find speech → run the model → reply. Errors become statuses in shared/rpc."""

from typing import Any

from google.protobuf import duration_pb2
from sensorium.speech.v1 import speech_service_pb2 as pb
from sensorium.speech.v1 import speech_service_pb2_grpc as pb_grpc
from sensorium.types.v1 import embedding_pb2

from services.speech import command_recognizer, detector, recognizer, voice_encoder
from services.speech.admission import ClipAdmission
from services.speech.clip import open_clip
from services.speech.limits import Bounds
from services.speech.pipeline.decoding import SAMPLE_RATE_HZ, Clip
from services.speech.pipeline.segmentation import Span
from services.speech.validation import (
    check_command_language,
    check_language,
    check_max_results,
    check_threshold,
)
from shared.errors import InvalidArgument
from shared.inference.repository.per_artifact import PerArtifact
from shared.inference.repository.repository import Repository
from shared.inference.timing import ItemStopwatch, Stopwatch
from shared.rpc.deadline import current_deadline

# grpc.aio's ServicerContext or the native front's; no method looks at it.
Context = Any


class SpeechServicer(pb_grpc.SpeechServiceServicer):
    """All rpcs of the speech service over one repository of models."""

    def __init__(self, repository: Repository, bounds: Bounds) -> None:
        self._repository = repository
        self._bounds = bounds
        self._admission = ClipAdmission(bounds.max_clips)
        self._detectors = PerArtifact(
            {detector.PREPROCESSING: detector.Detector}, rpc="DetectSpeech", repository=repository
        )
        self._recognizers = PerArtifact(
            {recognizer.PREPROCESSING: recognizer.Recognizer}, rpc="Transcribe", repository=repository
        )
        self._command_recognizers = PerArtifact(
            {command_recognizer.PREPROCESSING: command_recognizer.CommandRecognizer},
            rpc="RecognizeCommand",
            repository=repository,
        )
        self._voice_encoders = PerArtifact(
            {voice_encoder.PREPROCESSING: voice_encoder.VoiceEncoder},
            rpc="EmbedSpeaker",
            repository=repository,
        )

    async def Transcribe(self, request: pb.TranscribeRequest, context: Context) -> pb.TranscribeResponse:
        """Writes down what is said."""
        model = self._repository.model(request.model, "Transcribe")
        chosen = await self._recognizers.get(model)
        language = check_language(request.language, chosen.languages)
        watch = Stopwatch()
        async with self._admission.admit():
            item = watch.item()
            clip = await self._open(request.audio, item)
            speech = await self._detect(clip, item)
            said = [
                stretch async for stretch in chosen.transcribe(model, clip, speech, item, current_deadline())
            ]
        return pb.TranscribeResponse(
            text=" ".join(stretch.text for stretch in said),
            segments=[
                pb.TranscriptSegment(
                    segment=_segment(stretch.span, clip),
                    text=stretch.text,
                    stopped_early=stretch.stopped_early,
                )
                for stretch in said
            ],
            audio_duration=_duration(clip.duration_s),
            language=language,
            model=model.ref(),
            timing=watch.to_timing(),
        )

    async def DetectSpeech(
        self, request: pb.DetectSpeechRequest, context: Context
    ) -> pb.DetectSpeechResponse:
        """Says when somebody speaks."""
        threshold = check_threshold(request)
        model = self._repository.model(request.model, "DetectSpeech")
        chosen = await self._detectors.get(model)
        watch = Stopwatch()
        async with self._admission.admit():
            item = watch.item()
            clip = await self._open(request.audio, item)
            speech = await chosen.detect(model, clip, item, current_deadline(), threshold=threshold)
        return pb.DetectSpeechResponse(
            segments=[_segment(span, clip) for span in speech.spans],
            speech_duration=_duration(_seconds(speech.spans)),
            audio_duration=_duration(clip.duration_s),
            max_probability=float(speech.probability.max()),
            model=model.ref(),
            timing=watch.to_timing(),
        )

    async def RecognizeCommand(
        self, request: pb.RecognizeCommandRequest, context: Context
    ) -> pb.RecognizeCommandResponse:
        """Says which command is spoken, or what kind of sound is heard."""
        max_results = check_max_results(request.max_results)
        model = self._repository.model(request.model, "RecognizeCommand")
        chosen = await self._command_recognizers.get(model)
        language = check_command_language(request.language, chosen.languages)
        watch = Stopwatch()
        async with self._admission.admit():
            item = watch.item()
            clip = await self._open(request.audio, item)
            found = await chosen.recognize(
                model, clip, item, current_deadline(), max_results=max_results, language=language
            )
        return pb.RecognizeCommandResponse(
            commands=[
                pb.RecognizedCommand(label=one.label, language=one.language, score=one.score) for one in found
            ],
            audio_duration=_duration(clip.duration_s),
            model=model.ref(),
            timing=watch.to_timing(),
        )

    async def EmbedSpeaker(
        self, request: pb.EmbedSpeakerRequest, context: Context
    ) -> pb.EmbedSpeakerResponse:
        """Turns a voice into a vector."""
        model = self._repository.model(request.model, "EmbedSpeaker")
        chosen = await self._voice_encoders.get(model)
        watch = Stopwatch()
        async with self._admission.admit():
            item = watch.item()
            clip = await self._open(request.audio, item)
            speech = await self._detect(clip, item)
            if not speech.spans:
                raise InvalidArgument(
                    "audio.content",
                    expected="a clip in which somebody speaks",
                    got=f"{clip.duration_s:.2f} s without speech, probability at most {speech.probability.max():.2f}",
                    fix="send 2 s of speech or more; DetectSpeech shows what is heard",
                )
            vector = await chosen.embed(model, clip, speech, item, current_deadline())
        return pb.EmbedSpeakerResponse(
            embedding=embedding_pb2.Embedding(values=vector.tolist()),
            speech_duration=_duration(_seconds(speech.spans)),
            model=model.ref(),
            timing=watch.to_timing(),
        )

    async def _open(self, audio: pb.Audio, item: ItemStopwatch) -> Clip:
        with item.preprocessing():
            return await open_clip(audio, self._bounds)

    async def _detect(self, clip: Clip, item: ItemStopwatch) -> detector.Speech:
        """Find the speech with the service's own detector."""
        model = self._repository.model("", "DetectSpeech")
        chosen = await self._detectors.get(model)
        return await chosen.detect(model, clip, item, current_deadline())


def _seconds(spans: list[Span]) -> float:
    return sum(span.length for span in spans) / SAMPLE_RATE_HZ


def _segment(span: Span, clip: Clip) -> pb.Segment:
    # Rounding to 16 kHz may make the samples a fraction longer than the clip.
    start_s, end_s = (min(at / SAMPLE_RATE_HZ, clip.duration_s) for at in span)
    return pb.Segment(start=_duration(start_s), end=_duration(end_s))


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
