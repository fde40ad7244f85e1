"""A call of many steps ends on the version on which it began."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from services.speech.detector import PREPROCESSING, Detector
from services.speech.pipeline.decoding import Clip
from services.speech.recognizer import Recognizer
from shared.inference.repository.per_artifact import PerArtifact
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.inference.timing import Stopwatch
from shared.rpc.deadline import Deadline
from tests.support.artifact_copy import copy_version
from tests.support.signing import UNSIGNED
from tests.support.waiting import take, within

LIMIT_S = 60.0


async def test_a_transcription_that_a_swap_overtakes_goes_on(
    models_dir: Path, tmp_path: Path, sample: Callable[[str], Path]
) -> None:
    for name in ("moonshine-tiny-en", "silero-vad"):
        copy_version(models_dir / "speech" / name / "1", tmp_path, "1")
    repository = Repository(tmp_path, "speech", InferenceSettings(signature=UNSIGNED), {})
    await within(repository.load_all(), LIMIT_S)
    samples, rate_hz = soundfile.read(sample("beckett"), dtype="float32")
    clip = Clip(np.tile(samples, 3), 3 * len(samples) / rate_hz)
    watch, deadline = Stopwatch().item(), Deadline.after(LIMIT_S)
    detectors = PerArtifact({PREPROCESSING: Detector}, rpc="DetectSpeech")
    recognizers = PerArtifact({PREPROCESSING: Recognizer}, rpc="Transcribe")

    detector = repository.model("silero-vad", "")
    speech = await within((await within(detectors.get(detector))).detect(detector, clip, watch, deadline))
    model = repository.model("moonshine-tiny-en", "")
    stretches = (await within(recognizers.get(model))).transcribe(model, clip, speech, watch, deadline)
    before = await take(stretches, LIMIT_S)
    copy_version(models_dir / "speech" / "moonshine-tiny-en" / "1", tmp_path, "2")
    await within(repository.load_model("moonshine-tiny-en"), LIMIT_S)
    assert repository.model("moonshine-tiny-en", "").artifact.version == "2"
    after = [stretch.text async for stretch in stretches]
    # The clip says the same three times, and is cut in two.
    assert before.text.startswith("Ever tried")
    assert [text.endswith("fail better.") for text in after] == [True]
    del stretches, model
    await within(repository.wait_settled(), LIMIT_S)
    await within(repository.close())
