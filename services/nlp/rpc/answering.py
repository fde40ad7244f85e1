"""The texts of a call: read, run side by side, answered in order; a bad one fails alone."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from google.rpc import status_pb2

from services.nlp.limits import Bounds
from services.nlp.reading import Reading, TextReader, read_all
from services.nlp.running import Row, run_readings
from shared.inference.model import Model
from shared.inference.timing import Stopwatch
from shared.rpc.deadline import Deadline

T = TypeVar("T")


async def answer_each(
    texts: Sequence[str],
    reader: TextReader,
    model: Model,
    output: str,
    bounds: Bounds,
    watch: Stopwatch,
    deadline: Deadline,
    *,
    answer: Callable[[Reading, Row], T],
    refuse: Callable[[status_pb2.Status], T],
) -> list[T]:
    """One result per text, in order: `answer` of its row of the graph's `output`, or `refuse` where there is none."""
    whole = watch.item()
    with whole.preprocessing():
        readings = await read_all(texts, reader.read, bounds, deadline)
    good = [reading for reading in readings if isinstance(reading, Reading)]
    rows = iter(await run_readings(model, good, output, [watch.item() for _ in good], deadline))
    with whole.postprocessing():
        return [
            answer(reading, next(rows)) if isinstance(reading, Reading) else refuse(reading.to_status())
            for reading in readings
        ]
