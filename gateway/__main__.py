"""`python -m gateway [--config mesh.yaml]`: settings → plane → serve; exit 1 with one line if it cannot start."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from gateway.plane import Plane
from gateway.settings import GatewaySettings
from shared.errors import StartupError
from shared.settings import load
from shared.telemetry import logging
from shared.telemetry.tracing import TraceSettings


def main() -> None:
    """Runs the gateway; always ends in SystemExit."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description="The gateway of a Sensorium mesh.")
    parser.add_argument(
        "--config", type=Path, help="the mesh's file; default: SENSORIUM_GATEWAY_CONFIG, or deploy/mesh.yaml"
    )
    chosen = parser.parse_args().config
    try:
        log = load(logging.LogSettings, "log")
        logging.configure(log.level, log.format == "json", calls_per_s=log.calls_per_s)
        settings = load(GatewaySettings, "gateway")
        traces = load(TraceSettings, "trace")
        plane = Plane(settings if chosen is None else settings.model_copy(update={"config": chosen}), traces)
        asyncio.run(plane.run())
    except StartupError as error:
        sys.stderr.write(f"cannot start: {error}\n")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(0) from None
    raise SystemExit(0)


if __name__ == "__main__":
    main()
