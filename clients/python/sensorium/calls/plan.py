"""What a call is before anybody makes it: the rpc, its request messages, and what to make of the replies."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import status_pb2

from sensorium.errors import (
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SensoriumError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    from_status,
)
from sensorium.results import Model, Result, Timing
from sensorium.types.v1 import model_pb2

T = TypeVar("T")
R = TypeVar("R", bound=Result)

# Bytes of inputs in one request: far below the mesh's message limit (32 MiB), far above one call's overhead.
_MAX_CALL_BYTES = 16 * 2**20
# A year. Longer ones, and `inf`, mean the same: as long as the mesh lets it. gRPC takes them for none at all.
_LONGEST_S = 365 * 86_400.0
# Failures that blame the whole call rather than this input: the other inputs would meet them too.
_NOT_OF_ONE_INPUT = (
    Unauthenticated,
    PermissionDenied,
    NotFound,
    FailedPrecondition,
    Unimplemented,
    Unavailable,
)


@dataclass(frozen=True)
class Rpc:
    """One method of the wire: its path and its message types."""

    path: str
    request: type[Message]
    response: type[Message]


@dataclass(frozen=True)
class Request:
    """One message to send. offset: position of its first input in the caller's list. alone: whether that is its only one."""

    message: Message = field(repr=False)  # payloads reach no log by way of a traceback
    offset: int = 0
    alone: bool = False


@dataclass(frozen=True)
class Plan(Generic[T]):
    """A call: all of `requests` go to `rpc`; `finish` takes the replies in that order.

    keeps_failures: a request that fails by the fault of its own input does not fail the others; `finish` finds the
    error in the place of the reply.
    """

    rpc: Rpc
    requests: Sequence[Request]
    finish: Callable[[Sequence[Any]], T]
    keeps_failures: bool = False

    def settle(self, error: SensoriumError, request: Request, *, cause: BaseException) -> SensoriumError:
        """Returns `error` if it takes the place of the reply to `request`; raises it, from `cause`, if it ends the call."""
        # An input that is larger than the mesh takes is sent alone, and is at fault alone.
        too_large = request.alone and isinstance(error, ResourceExhausted) and error.retry_after_s is None
        if not (self.keeps_failures or too_large) or isinstance(error, _NOT_OF_ONE_INPUT):
            raise error from cause
        return error


def check_timeout(timeout_s: float) -> float:
    """The seconds to give a call. Zero and less are what is left of a deadline that has passed.

    Raises TypeError or ValueError for what is no number of seconds.
    """
    try:
        unknown = math.isnan(timeout_s)
    except TypeError:
        raise TypeError(f"timeout_s: expected a number of seconds, got {timeout_s!r}") from None
    if unknown:
        raise ValueError(f"timeout_s: expected a number of seconds, got {timeout_s}")
    return min(float(timeout_s), _LONGEST_S)


def split(sizes: Sequence[int], max_items: int) -> Iterator[slice]:
    """Cuts a list of inputs, given by their sizes in bytes, into calls of at most `max_items` and 16 MiB."""
    start, total = 0, 0
    for at, size in enumerate(sizes):
        if at > start and (at - start == max_items or total + size > _MAX_CALL_BYTES):
            yield slice(start, at)
            start, total = at, 0
        total += size
    if start < len(sizes):
        yield slice(start, len(sizes))


def item_error(result: Any, offset: int) -> SensoriumError | None:
    """Why one input of a list call was refused; None if it was answered."""
    status: status_pb2.Status = result.status
    return from_status(status, offset=offset) if status.code else None


def unwrap(results: list[R], *, many: bool) -> R | list[R]:
    """A list for a list; for a single input its result, or its error raised."""
    if many:
        return results
    (result,) = results
    if result.error is not None:
        raise result.error
    return result


def as_list(value: Any) -> tuple[list[Any], bool]:
    """(the inputs as a list, whether they came as one). A tuple of (samples, rate) is one clip, not two."""
    if isinstance(value, list):
        return value, True
    if isinstance(value, tuple) and not _is_samples(value):
        return list(value), True
    return [value], False


def _is_samples(value: tuple[Any, ...]) -> bool:
    # A rate is a whole number, Python's or numpy's; an array has __index__ too, and a length.
    return len(value) == 2 and hasattr(value[1], "__index__") and not hasattr(value[1], "__len__")


def enum_name(enum: Any, number: int, prefix: str) -> str:
    """`KIND_LEFT_EYE` as `left_eye`; a value that is newer than these stubs as its number."""
    return enum.Name(number).removeprefix(prefix).lower() if number in enum.values() else str(number)


def seconds(duration: Duration) -> float:
    """A Duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def model(ref: model_pb2.ModelRef) -> Model:
    """The model that a reply names."""
    return Model(ref.name, ref.version)


def timing(times: model_pb2.Timing) -> Timing:
    """The times of a reply, in seconds."""
    return Timing(
        preprocess_s=seconds(times.preprocess),
        queue_s=seconds(times.queue),
        compute_s=seconds(times.compute),
        postprocess_s=seconds(times.postprocess),
    )
