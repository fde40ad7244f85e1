"""From one ModelInferRequest to its answer: the way that ModelInfer and each message of a stream go.

Here: the order of steps, and what of them is too much for the event loop. Not here: reading (`request.py`), replies
(`reply.py`), batches and the cache (`shared.inference.model`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from weakref import WeakKeyDictionary

from sensorium.oip.v2 import inference_pb2 as pb

from shared.inference.batching.waiting import Answer
from shared.inference.executor import run_in_executor
from shared.inference.model import ServedGraph
from shared.inference.oip.classification import read_labels
from shared.inference.oip.familiar import Plan
from shared.inference.oip.message import InferMessage, InferRequest
from shared.inference.oip.reply import make_classified_response, make_infer_response
from shared.inference.oip.request import Asked, RequestReader
from shared.inference.repository.repository import Repository
from shared.rpc.deadline import Deadline

# Typed lists and BYTES become arrays element by element, at some 30 ns each: from this size on (about 1 ms)
# that is done off the event loop. Raw numbers are not copied at all.
_SLOW_BYTES = 128 * 1024
# Finding the highest of so many numbers takes about 1 ms.
_SLOW_CLASSES = 8192


class Face:
    """What the protocol knows of one served graph, made once for it. Holds nothing of its session."""

    def __init__(self, graph: ServedGraph) -> None:
        self.reader = RequestReader(graph.loaded.signature, graph.name)
        self.types = self.reader.output_types
        self.version = graph.artifact.version
        self.batched = bool(graph.loaded.max_batch_size)
        self._artifact = graph.artifact

    def plan(self, request: pb.ModelInferRequest, raw: Sequence[bytes | memoryview]) -> Plan | None:
        """How requests of this layout are answered; None where anything is out of the ordinary."""
        asked = None if request.parameters else self.reader.read_plain(request, raw)
        if asked is None or any(name == "BYTES" for name in self.types.values()):
            return None
        return Plan(self, request, asked, self.types, self.version)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The artifact's names of classes. Reads a file the first time, some kilobytes."""
        return read_labels(self._artifact)


class Answering:
    """Answers requests for the models of one repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        # Not held by this: a version that was replaced ends once nobody holds its graphs.
        self._faces: WeakKeyDictionary[ServedGraph, Face] = WeakKeyDictionary()

    async def answer_encoded(
        self, message: InferRequest, deadline: Deadline
    ) -> pb.ModelInferResponse | bytes:
        """As `answer`, or the reply as it goes onto the wire, where the request is of a layout that is known."""
        layout = message.layout if isinstance(message, InferMessage) else None
        if layout is None:
            return await self.answer(message, deadline)
        assert isinstance(message, InferMessage)
        request = message.request
        graph = self._repository.graph(request.model_name, request.model_version)
        face = self.face(graph)
        plan = layout.known
        if not isinstance(plan, Plan) or plan.owner is not face:
            plan = layout.known = face.plan(request, message.raw)
        if plan is None:
            return await self.answer(message, deadline)
        inputs = plan.read(message.raw)
        answer = await graph.infer(inputs, plan.outputs, deadline)
        if plan.shape is None and graph.cache is None:
            plan.shape = graph.batcher.measure(inputs, plan.outputs)
        return plan.write(answer)

    async def answer(self, message: InferRequest, deadline: Deadline) -> pb.ModelInferResponse:
        """Run a graph on a request's tensors, by the deadline or by the request's own `timeout`.

        Raises:
            NotFound, Unavailable: as `Repository.graph`.
            InvalidArgument, InvalidArguments: the request is wrong, or the graph failed on its values.
            ResourceExhausted, DeadlineExceeded: as `Batcher.submit`.
        """
        raw: Sequence[bytes | memoryview]
        if isinstance(message, InferMessage):
            request, raw = message.request, message.raw
        else:
            request, raw = message, message.raw_input_contents
        graph = self._repository.graph(request.model_name, request.model_version)
        face = self.face(graph)
        asked = face.reader.read_plain(request, raw)
        if asked is None:
            # Every look at a bytes field of a message makes a copy of it: taken out once.
            raw = list(raw)
            if request.ByteSize() + sum(map(len, raw)) > _SLOW_BYTES:
                asked = await run_in_executor(face.reader.read, request, raw)
            else:
                asked = face.reader.read(request, raw)
        if asked.timeout_s is not None:
            deadline = min(deadline, Deadline.after(asked.timeout_s), key=_at)
        answer = await graph.infer(asked.inputs, asked.outputs, deadline, priority=asked.priority)
        reply = request, face.version, face.types, asked, answer
        if asked.classes:
            elements = sum(answer.outputs[name].size for name in asked.classes)
            slow = elements > _SLOW_CLASSES or _is_slow(face, asked, answer)
            if slow:
                return await run_in_executor(
                    make_classified_response, *reply, face.labels, batched=face.batched
                )
            return make_classified_response(*reply, face.labels, batched=face.batched)
        if _is_slow(face, asked, answer):
            return await run_in_executor(make_infer_response, *reply)
        return make_infer_response(*reply)

    def graph(self, name: str, version: str) -> ServedGraph:
        """The graph that a request is for. Raises as `Repository.graph`."""
        return self._repository.graph(name, version)

    def face(self, graph: ServedGraph) -> Face:
        """What the protocol knows of a graph."""
        found = self._faces.get(graph)
        if found is None:
            found = self._faces[graph] = Face(graph)
        return found


def _at(deadline: Deadline) -> float:
    return deadline.at_s


def _is_slow(face: Face, asked: Asked, answer: Answer) -> bool:
    """Whether a reply is made element by element, of so many that the event loop should not do it."""
    return any(
        array.nbytes > _SLOW_BYTES and not (asked.raw and face.types[name] != "BYTES")
        for name, array in answer.outputs.items()
    )
