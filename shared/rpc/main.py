"""The frame of every serving process: memory, logging, start, serve, stop, exit code. What is served is the caller's."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable

from shared.errors import RESTART_CODE, RestartError, StartupError
from shared.rpc.allocator import free_large_blocks_at_once
from shared.rpc.server import Server
from shared.settings import load
from shared.telemetry import logging, tracing

# Objects that must have been added before the garbage collector looks at the young ones, and how often it then looks at
# older ones. Calls in flight are hundreds of objects that reference counting frees by itself: with Python's 700 the
# collector went over them every 25 calls, a fifteenth of all CPU time of a replica under small calls.
_COLLECT_EVERY = (20_000, 10, 10)


def run(build: Callable[[], Awaitable[Server]]) -> None:
    """Builds a server, starts it, and serves until SIGTERM or SIGINT. Never returns otherwise than by
    SystemExit.

    Exits with 0 after a drain (or a signal during the start), with 1 and one readable line on stderr for a
    StartupError (bad settings, an address in use), and with 75 and one line after the drain that a RestartError of
    a background task began.
    """
    free_large_blocks_at_once()
    gc.set_threshold(*_COLLECT_EVERY)
    try:
        settings = load(logging.LogSettings, "log")
        logging.configure(settings.level, settings.format == "json", calls_per_s=settings.calls_per_s)
        with asyncio.Runner(loop_factory=_find_loop()) as runner:
            runner.run(_run(build, load(tracing.TraceSettings, "trace")))
    except StartupError as error:
        sys.stderr.write(f"cannot start: {error}\n")
        raise SystemExit(1) from None
    except RestartError as error:
        sys.stderr.write(f"restarting: {error}\n")
        sys.stderr.flush()
        # What does not return, and is why, would also keep the interpreter from ending.
        os._exit(RESTART_CODE)
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise SystemExit(0) from None
    raise SystemExit(0)


def _find_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed: calls that come one by one cost a sixth less. Else asyncio's own."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ModuleNotFoundError:
        return None
    make: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return make


async def _run(build: Callable[[], Awaitable[Server]], traces: tracing.TraceSettings) -> None:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    # While models load nobody is in flight: stop at once. Afterwards the server takes the signals over, to
    # drain.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    server = await build()
    tracing.start(traces, server.service, server.replica.instance_id)
    await server.start()
    await server.serve_until_stopped()
    await asyncio.to_thread(tracing.stop)
