"""A service whose model notes when it began with which call: `python -m tests.benchmarks.recording_service`.

Server, admission, batcher and session are the real ones, with MiniLM. The last 8 bytes of a call's message are its number,
which becomes the first token of its text; just before each run the session notes the numbers of its rows and the time.
Configured by SENSORIUM_RECORDING_*.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.wrappers_pb2 import BytesValue

from shared.inference.artifact import read_artifact
from shared.inference.batching.batcher import Batcher
from shared.inference.datatypes import Array
from shared.inference.session.session import RunOptions, Session
from shared.inference.settings import InferenceSettings
from shared.rpc.deadline import current_deadline
from shared.rpc.main import run
from shared.rpc.replica import Replica
from shared.rpc.server import Server
from shared.rpc.settings import RpcSettings
from shared.settings import Settings, load
from tests.support.stub import SERVICE, stub

TOKENS = 200
# Vocabulary entries: the first are marks.
FIRST_WORD, WORDS = 1000, 29_000


class RecordingSettings(Settings):
    """Where it listens, and where the models are."""

    rpc: RpcSettings = RpcSettings()
    inference: InferenceSettings = InferenceSettings()


class RecordingSession(Session):
    """A session that notes its runs: the time, in seconds since the Unix epoch, and the first token of every row."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.starts: list[tuple[float, list[int]]] = []

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], options: RunOptions | None = None
    ) -> list[Array]:
        """As the session's, noted before it begins."""
        self.starts.append((time.time(), [int(row[0]) for row in inputs["input_ids"]]))
        return super().run(inputs, outputs, options)


class RecordingService:
    """Answers by running the model on a text that stands for the call's number."""

    def __init__(self, batcher: Batcher, session: RecordingSession) -> None:
        self._batcher = batcher
        self._session = session
        self._mask = np.ones((1, TOKENS), np.int64)

    async def infer(self, request: BytesValue, context: Any) -> BytesValue:
        """Runs the model."""
        number = int.from_bytes(request.value[-8:], "little")
        ids = np.full((1, TOKENS), FIRST_WORD, np.int64)
        ids[0, 0] = FIRST_WORD + number % WORDS
        await self._batcher.submit({"input_ids": ids, "attention_mask": self._mask}, (), current_deadline())
        return BytesValue()

    async def left(self, request: BytesValue, context: Any) -> BytesValue:
        """The seconds that the call has left."""
        return BytesValue(value=json.dumps(current_deadline().remaining_s()).encode())

    async def recorded(self, request: BytesValue, context: Any) -> BytesValue:
        """The runs so far, `[[time, [call number, …]], …]`; forgotten with that."""
        starts, self._session.starts = self._session.starts, []
        numbers = [[at_s, [token - FIRST_WORD for token in tokens]] for at_s, tokens in starts]
        return BytesValue(value=json.dumps(numbers).encode())


async def build() -> Server:
    """Settings → session → batcher → server."""
    settings = load(RecordingSettings, "recording")
    folder = settings.inference.find_models_dir("nlp") / "minilm"
    newest = max(folder.iterdir(), key=lambda path: int(path.name))
    artifact = read_artifact(newest)
    ((name, graph),) = artifact.graphs.items()
    session = RecordingSession(artifact.graph_file(name), intra_op_threads=1, shapes_vary=graph.shapes_vary)
    batcher = Batcher(
        session,
        graph,
        name="nlp/minilm",
        max_batch_size=graph.max_batch_size,
        max_queue_size=settings.inference.max_queue_size,
        target_batch_s=settings.inference.target_batch_s,
    )
    service = RecordingService(batcher, session)
    return Server(
        settings.rpc,
        service="recording",
        replica=Replica("recording"),
        register=[stub(Infer=service.infer, Left=service.left, Recorded=service.recorded)],
    )


METHOD = f"{SERVICE}/Infer"

if __name__ == "__main__":
    run(build)
