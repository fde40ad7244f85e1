"""Requests that differ from one before in nothing but their tensors' bytes: the rest of them is not read again.

Clients of a model send the same message over and over, with other numbers in `raw_input_contents`. A layout is such a
message without them: where they lie, and what lies between. Whoever sends a message of the same length with the same bytes
in between means the same by it. That costs 1 µs where parsing costs 4 and checking 8.

Here: bytes. Not here: what a request means (`request.py`), how one is parsed (`message.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from sensorium.oip.v2 import inference_pb2 as pb

__all__ = ["Layout", "Layouts", "Span"]

Span = tuple[int, int]

# Bytes between the tensors; more is no request of plain tensors, and would take long to compare.
_MAX_LITERAL_BYTES = 4096
# Lengths of messages that are known, and messages of one length. Beyond, the oldest is forgotten.
_MAX_LENGTHS, _MAX_ALIKE = 256, 4
# So many messages of one length that were all different: their clients put something of its own into each (an id), and
# learning them is in vain. Now and then it is tried again.
_IN_VAIN, _TRY_AGAIN = 16, 1024


class Layout:
    """A request without its tensors. The request that was parsed is shared by all of its kind: nobody may change it."""

    __slots__ = ("_literals", "known", "request", "spans")

    def __init__(self, payload: bytes, request: pb.ModelInferRequest, spans: Sequence[Span]) -> None:
        """`spans` are where the raw contents lie, in order."""
        self.request = request
        self.spans = tuple(spans)
        self.known: object = None  # what whoever answers such requests has found out of them
        literals, start = [], 0
        for begin, end in (*spans, (len(payload), len(payload))):
            if begin > start:
                literals.append((start, begin, payload[start:begin]))
            start = end
        self._literals = tuple(literals)

    def fits(self, payload: bytes) -> bool:
        """Whether a message of the same length is one of these."""
        # A loop, for there are one or two of them: a generator would cost more than the comparisons.
        for start, end, literal in self._literals:  # noqa: SIM110
            if payload[start:end] != literal:
                return False
        return True


class _Alike:
    """Layouts of messages of one length, the newest first."""

    __slots__ = ("layouts", "misses")

    def __init__(self) -> None:
        self.layouts: list[Layout] = []
        self.misses = 0


class Layouts:
    """The layouts that one process knows. Used on one thread."""

    def __init__(self) -> None:
        self._by_length: dict[int, _Alike] = {}

    def find(self, payload: bytes) -> Layout | None:
        """The layout of a message, if it is known."""
        alike = self._by_length.get(len(payload))
        if alike is None:
            return None
        for layout in alike.layouts:
            if layout.fits(payload):
                alike.misses = 0
                return layout
        alike.misses += 1
        return None

    def is_worthwhile(self, payload: bytes) -> bool:
        """Whether a message that is not known should be learned: most of its length are known again."""
        alike = self._by_length.get(len(payload))
        return alike is None or alike.misses <= _IN_VAIN or alike.misses % _TRY_AGAIN == 0

    def learn(self, payload: bytes, request: pb.ModelInferRequest, spans: Sequence[Span]) -> Layout | None:
        """Take note of a message that was not known; None if it holds too much beside its tensors."""
        if len(payload) - sum(end - start for start, end in spans) > _MAX_LITERAL_BYTES:
            return None
        alike = self._by_length.get(len(payload))
        if alike is None:
            if len(self._by_length) >= _MAX_LENGTHS:
                del self._by_length[next(iter(self._by_length))]
            alike = self._by_length[len(payload)] = _Alike()
        layout = Layout(payload, request, spans)
        alike.layouts = [layout, *alike.layouts[: _MAX_ALIKE - 1]]
        return layout
