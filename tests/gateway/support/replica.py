"""A replica as a process of its own, to be killed: `python -m tests.gateway.support.replica SERVICE ADDRESS_FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

from shared.rpc.main import run
from shared.rpc.replica import Replica
from shared.rpc.server import Server
from shared.rpc.settings import RpcSettings
from tests.gateway.support.toy import inference, model, toy


async def build() -> Server:
    """Has the model `echo`, the default of Say; answers at once."""
    service, address_file = sys.argv[1:]
    replica = Replica(service)
    replica.set_models([model("echo", default_for=("Say",))])
    settings = RpcSettings(address_file=Path(address_file), drain_notice_s=0.1)
    return Server(settings, service=service, replica=replica, register=[toy(), inference(service)])


if __name__ == "__main__":
    run(build)
