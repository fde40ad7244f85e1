"""The trace that a native crash leaves: how a process is made to write it, and what it says.

Here: Python's `faulthandler`, which writes to a file from within the signal. SIGKILL (an operator, the kernel short
of memory) leaves no trace, and so blames nobody. Not here: whose fault it was (`marker.py`).
"""

from __future__ import annotations

import ctypes
import faulthandler
import re
import sys
import threading
from dataclasses import dataclass
from typing import BinaryIO

# Room for the handler where a thread's own stack is used up; processors with wide registers want up to 12 kB of it.
_STACK_BYTES = 64 * 2**10
_FATAL = re.compile(rb"^Fatal Python error: (.+)$", re.MULTILINE)
_CURRENT = re.compile(rb"^Current thread 0x([0-9a-f]+)", re.MULTILINE)
# The first frames after that line: what the thread was doing.
_FRAME = re.compile(rb'^  File "([^"]*)", line (\d+) in (.*)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fatal signal. thread: identity of the guilty thread, None if it was none of Python's."""

    what: str  # "Segmentation fault"
    thread: int | None
    where: str  # the innermost frame of that thread, "" if there is none


def write_faults(stream: BinaryIO) -> None:
    """From now on a fatal signal of this process writes its trace to `stream`, which must stay open."""
    faulthandler.enable(stream, all_threads=True)


def parse_fault(content: bytes) -> Fault | None:
    """What a trace says; None if there is none."""
    fatal = _FATAL.search(content)
    if fatal is None:
        return None
    current = _CURRENT.search(content)
    frame = None if current is None else _FRAME.search(content, current.end())
    return Fault(
        what=fatal[1].decode(errors="replace").strip(),
        thread=None if current is None else int(current[1], 16),
        where="" if frame is None else f"{frame[3].decode(errors='replace')}, line {frame[2].decode()}",
    )


def give_signal_stack() -> None:
    """Give this thread a second stack, so that a trace is written where its own overflows. Again: does nothing."""
    if not hasattr(_threads, "stack"):
        _threads.stack = _SignalStack()


class _Stack(ctypes.Structure):
    """`stack_t` of <signal.h>; BSD has the last two the other way round."""

    _fields_ = (
        [("sp", ctypes.c_void_p), ("size", ctypes.c_size_t), ("flags", ctypes.c_int)]
        if sys.platform == "darwin"
        else [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
    )


class _SignalStack:
    """The memory; it goes with the thread."""

    def __init__(self) -> None:
        self._memory = ctypes.create_string_buffer(_STACK_BYTES)
        stack = _Stack()
        stack.sp, stack.size, stack.flags = ctypes.addressof(self._memory), _STACK_BYTES, 0
        # A failure leaves things as they were without it.
        ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None)


_threads = threading.local()
