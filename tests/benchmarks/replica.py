"""One replica of a service as a process of its own, over the pulled models, in a state folder of its own."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from cli.place import models_dir
from shared.inference.signature import OWN_KEYS
from shared.rpc.channel import channel
from shared.settings import state_dir
from tests.support.service_process import loaded, started
from tests.support.waiting import within

# Models of a service load in seconds; a shared machine may take its time.
START_S, STOP_S = 90.0, 30.0


@dataclass(frozen=True)
class RunningReplica:
    """Where it is, its process, and a channel to it."""

    address: str
    pid: int
    channel: grpc.aio.Channel


@asynccontextmanager
async def running_replica(
    module: str, service: str, *, models: Path | None = None, log_level: str = "error", **settings: str
) -> AsyncIterator[RunningReplica]:
    """`python -m module`, configured as `service`, all models loaded: those that were pulled, or those in a folder.

    settings: the ends of its variables, in lower case. What machines learn and what is remembered of crashes stays out of
    the user's own folder.
    """
    name = f"SENSORIUM_{service.upper()}_"
    with tempfile.TemporaryDirectory() as state:
        address_file = Path(state) / "address"
        environ = {
            f"{name}RPC__ADDRESS_FILE": str(address_file),
            f"{name}INFERENCE__MODELS_DIR": str(models or models_dir(state_dir(), service)),
            "SENSORIUM_LOG_LEVEL": log_level,
            f"{name}INFERENCE__SIGNATURE__TRUSTED": str(state_dir() / OWN_KEYS),
            f"{name}INFERENCE__SIGNATURE__REQUIRED": "false",
            "SENSORIUM_STATE_DIR": state,
            **{f"{name}{key.upper()}": value for key, value in settings.items()},
        }
        async with started(module, environ) as process:
            async with asyncio.timeout(START_S):
                while not address_file.exists():
                    if process.returncode is not None:
                        _, said = await process.communicate()
                        raise SystemExit(f"{module} did not start: {said.decode()}")
                    await asyncio.sleep(0.05)
            address = address_file.read_text().strip()
            async with channel(address) as opened:
                await within(loaded(opened), START_S)
                yield RunningReplica(address, process.pid, opened)
            process.terminate()
            await within(process.communicate(), STOP_S)
