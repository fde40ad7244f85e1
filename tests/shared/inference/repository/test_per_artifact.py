"""What is made of an artifact once: kept, refused with a reason, forgotten."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.errors import Unavailable
from shared.inference.artifact import Artifact
from shared.inference.model import Model
from shared.inference.repository.per_artifact import PerArtifact
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from tests.support.signing import UNSIGNED
from tests.support.waiting import within


@pytest.fixture
async def model(models_dir: Path, tmp_path: Path) -> AsyncIterator[Model]:
    (tmp_path / "silero-vad").symlink_to(models_dir / "speech" / "silero-vad", target_is_directory=True)
    repository = Repository(tmp_path, "speech", InferenceSettings(signature=UNSIGNED), {})
    await within(repository.load_all())
    yield repository.model("silero-vad", "")
    await within(repository.close())


async def test_it_is_made_once(model: Model) -> None:
    made: list[str] = []

    def make(artifact: Artifact) -> str:
        made.append(artifact.digest)
        return artifact.name

    kept = PerArtifact({model.artifact.preprocessing: make}, rpc="DetectSpeech")
    assert await within(kept.get(model)) == "silero-vad"
    assert await within(kept.get(model)) == "silero-vad"
    assert made == [model.artifact.digest]


async def test_first_calls_at_once_agree(model: Model) -> None:
    kept = PerArtifact({"audio-16k-mono/1": lambda artifact: artifact.name}, rpc="DetectSpeech")
    assert set(await within(asyncio.gather(*(kept.get(model) for _ in range(8))))) == {"silero-vad"}


async def test_another_preprocessing_is_refused(model: Model) -> None:
    kept = PerArtifact({"text-wordpiece-uncased/1": lambda artifact: artifact}, rpc="EmbedText")
    with pytest.raises(
        Unavailable, match="EmbedText needs one made for text-wordpiece-uncased/1, this is for audio"
    ):
        await within(kept.get(model))


async def test_what_the_artifact_lacks_is_said(model: Model) -> None:
    kept = PerArtifact({"audio-16k-mono/1": lambda artifact: artifact.asset("tokenizer")}, rpc="Transcribe")
    with pytest.raises(Unavailable, match=r"does not say what Transcribe needs.*tokenizer"):
        await within(kept.get(model))


async def test_the_artifacts_preprocessing_chooses_among_several(model: Model) -> None:
    kept = PerArtifact(
        {"audio-8k/1": lambda artifact: "commands", "audio-16k-mono/1": lambda artifact: "speech"}, rpc="Any"
    )
    assert await within(kept.get(model)) == "speech"


async def test_a_refusal_lists_every_preprocessing_that_would_do(model: Model) -> None:
    kept = PerArtifact(
        {"text-ngrams/1": lambda artifact: 1, "text-wordpiece-uncased/1": lambda artifact: 2},
        rpc="ClassifyText",
    )
    with pytest.raises(
        Unavailable, match="made for text-ngrams/1 or text-wordpiece-uncased/1, this is for audio-16k-mono/1"
    ):
        await within(kept.get(model))
