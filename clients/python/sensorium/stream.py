"""Streams for ordinary code: a thread takes inputs, a bounded number ahead of the results, which come in their order.

What one input becomes is in `sensorium.calls`.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar

import grpc

from sensorium.calls.stream import GRACE_S, Settled, unanswered
from sensorium.errors import SensoriumError, Unavailable

T = TypeVar("T")


class Pending(Protocol):
    """The answer to one input, under way."""

    def wait(self) -> Any:
        """The result. Raises SensoriumError if the stream cannot go on."""

    def cancel(self) -> None:
        """It is not wanted any more."""


@dataclass(frozen=True)
class _End:
    """Nothing more comes: the inputs are at their end, or taking one raised `error`."""

    error: BaseException | None


class _Ended:
    """The call of a stream has ended, by whatever cause."""


class _Window:
    """What is under way of one stream, between the thread that takes inputs and the one that takes results."""

    def __init__(self, at_once: int) -> None:
        self._slots = threading.Semaphore(at_once)
        self._lock = threading.Lock()
        self._entries: queue.SimpleQueue[Pending | _End | _Ended] = queue.SimpleQueue()
        self._running: deque[Pending] = deque()
        self._stopped = False
        self.at_end = False

    def feed(
        self, inputs: Iterable[T], start: Callable[[T], tuple[Pending, Any]]
    ) -> Generator[Any, None, None]:
        """Starts the answer to one input after the other, and yields what `start` gives beside it unless that is None.

        Whatever `inputs` raises is raised where results are taken, after those that were asked for before.
        """
        with _Ending(self):
            source = iter(inputs)
            while True:
                self._slots.acquire()
                if self._stopped:
                    return
                try:
                    given = next(source)
                except StopIteration:
                    return
                with self._lock:
                    # Closed while it waited for the input.
                    if self._stopped:
                        return
                    pending, message = start(given)
                    self._running.append(pending)
                    self._entries.put(pending)
                if message is not None:
                    yield message

    def end(self, error: BaseException | None) -> None:
        """No more inputs come, because of `error` if there is one."""
        self.at_end = True
        self._entries.put(_End(error))

    def take(self) -> Iterator[Pending | _Ended]:
        """What is under way in the order of the inputs, until their end. Raises what the inputs raised."""
        while True:
            entry = self._entries.get()
            if isinstance(entry, _Ended) and self.at_end:
                continue  # all was sent: the answers that are missing will say more
            if isinstance(entry, _End):
                if entry.error is not None:
                    raise entry.error
                return
            yield entry

    def release(self) -> None:
        """One result was taken: there is room for another input."""
        self._running.popleft()
        self._slots.release()

    def note_end(self) -> None:
        """The call of the stream has ended."""
        self._entries.put(_Ended())

    def stop(self) -> None:
        """Nobody takes results any more."""
        with self._lock:
            self._stopped = True
        for pending in self._running:
            pending.cancel()
        self._slots.release()


@dataclass(frozen=True)
class _Ending:
    """However the taking of inputs ends, the thread that takes results is told."""

    window: _Window

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        # gRPC drops what it does not need any more when the call is over: that is no end of the inputs.
        if not isinstance(error, GeneratorExit):
            self.window.end(error)
        return True


@contextmanager
def _window(at_once: int) -> Iterator[_Window]:
    window = _Window(at_once)
    try:
        yield window
    finally:
        window.stop()


def stream_calls(
    inputs: Iterable[T], start: Callable[[T], Pending], at_once: int
) -> Generator[Any, None, None]:
    """A call per input. Closing it cancels what is under way."""
    with _window(at_once) as window:

        def feed() -> None:
            for _ in window.feed(inputs, lambda given: (start(given), None)):
                raise AssertionError("calls have no messages beside them")

        # A daemon: it may wait for an input that never comes.
        threading.Thread(target=feed, name="sensorium-stream", daemon=True).start()
        for pending in window.take():
            assert not isinstance(pending, _Ended)
            result = pending.wait()
            window.release()
            yield result


class _Watch:
    """Cancels a call whose next message is late, from a thread of its own: gRPC waits for messages without a limit."""

    def __init__(self, limit_s: float, cancel: Callable[[], Any]) -> None:
        self._limit_s, self._cancel = limit_s, cancel
        self._changed = threading.Condition()
        self._until_s: float | None = None
        self._idle = self._over = False
        self.was_late = False
        threading.Thread(target=self._run, name="sensorium-watch", daemon=True).start()

    def __enter__(self) -> None:
        with self._changed:
            self._until_s = time.monotonic() + self._limit_s
            # Elsewise it wakes up in time by itself.
            if self._idle:
                self._changed.notify()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._until_s = None

    def stop(self) -> None:
        """Ends the thread."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._over:
                left_s = None if self._until_s is None else self._until_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    self.was_late = True
                    break
                self._idle = left_s is None
                self._changed.wait(left_s)
        if self.was_late:
            self._cancel()


@dataclass(frozen=True)
class _Reply:
    """The next message of a call."""

    call: Any
    watch: _Watch
    timeout_s: float
    parse: Callable[[Any], Any]
    describe: Callable[[grpc.RpcError], SensoriumError]

    def wait(self) -> Any:
        """See Pending."""
        try:
            with self.watch:
                message = next(self.call)
        except StopIteration:
            raise ended_early() from None
        except grpc.RpcError as error:
            if self.watch.was_late:
                raise unanswered(self.timeout_s) from error
            raise self.describe(error) from error
        return self.parse(message)

    def cancel(self) -> None:
        """See Pending."""
        self.call.cancel()


def ended_early() -> SensoriumError:
    """The mesh said good-bye to a stream that was not at its end."""
    return Unavailable("the mesh ended the stream before all inputs were answered", code="UNAVAILABLE")


def stream_messages(
    inputs: Iterable[T],
    open_call: Callable[[Iterator[Any]], Any],
    make: Callable[[T], Any],
    parse: Callable[[Any], Any],
    describe: Callable[[grpc.RpcError], SensoriumError],
    at_once: int,
    timeout_s: float,
) -> Generator[Any, None, None]:
    """One call with a message per input, and a reply per message. make: a message, or Settled for an input that is none.

    timeout_s: of each message, which the mesh keeps, unless it hangs. Closing it cancels the call.
    """
    with _window(at_once) as window:
        opened = threading.Event()

        def start(given: T) -> tuple[Pending, Any]:
            message = make(given)
            return (message, None) if isinstance(message, Settled) else (reply, message)

        def messages() -> Iterator[Any]:
            # gRPC's thread may begin before the call is in our hands.
            opened.wait()
            yield from window.feed(inputs, start)

        call = open_call(messages())
        watch = _Watch(timeout_s + GRACE_S, call.cancel)
        reply = _Reply(call, watch, timeout_s, parse, describe)
        opened.set()
        if not call.add_callback(window.note_end):
            window.note_end()
        try:
            for pending in window.take():
                if isinstance(pending, _Ended):
                    reply.wait()
                    raise ended_early()
                result = pending.wait()
                window.release()
                yield result
            # All is answered: let the mesh end the call.
            with suppress(grpc.RpcError):
                deque(call, 0)
        finally:
            watch.stop()
            call.cancel()
