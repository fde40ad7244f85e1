"""Settings of a process that answers calls: where it listens, on which front, with which bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from shared.rpc.admission.settings import AdmissionSettings
from shared.settings import Settings

# Longest path of a Unix socket, in bytes: sockaddr_un holds 108 with the final zero (104 on macOS).
MAX_UNIX_PATH_BYTES = 103


class RpcSettings(Settings):
    """Where and how calls are taken. Loopback or a Unix socket by default: the gateway in front is what faces
    the network.
    """

    address: str = "127.0.0.1:0"
    """`host:port` (port 0: a free one) or `unix:/path`."""
    front: Literal["native", "grpcio"] = "native"
    """`native`: HTTP/2 in Rust (pygrpc-native), about a sixth of the CPU; `grpcio`: the reference
    implementation.
    """
    max_message_bytes: int = Field(default=32 * 1024 * 1024, gt=0, lt=2**31)
    """Largest request message."""
    default_timeout_s: float = Field(default=30.0, gt=0)
    """For a call that brings no deadline. One that streams its requests has none then, and lasts as long as its client
    wants; each of its messages has this long.
    """
    max_timeout_s: float = Field(default=300.0, gt=0)
    """No deadline lies further off than this."""
    admission: AdmissionSettings = AdmissionSettings()
    """When calls are refused for load."""
    drain_timeout_s: float = Field(default=20.0, ge=0)
    """How long calls in flight may go on after the signal to stop."""
    drain_notice_s: float = Field(default=0.5, ge=0)
    """How long new calls are still taken while whoever watches learns of the drain; skipped if nobody
    watches.
    """
    tls_certificate_file: Path | None = None
    """PEM; with it the port speaks TLS only, on the grpcio front."""
    tls_key_file: Path | None = None
    """PEM, the certificate's key."""
    tls_client_ca_file: Path | None = None
    """PEM; with it only clients with a certificate of this authority are let in."""
    metrics_address: str | None = None
    """`host:port` for Prometheus, or unset for none."""
    address_file: Path | None = None
    """File that gets the bound address, atomically, once calls are taken: how a supervisor learns port 0."""

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file: expected both or neither")
        if self.tls_client_ca_file is not None and self.tls_certificate_file is None:
            raise ValueError("tls_client_ca_file: expected tls_certificate_file and tls_key_file beside it")
        return self

    @field_validator("address")
    @classmethod
    def _check_address(cls, value: str) -> str:
        if value.startswith("unix:"):
            path = value.removeprefix("unix:")
            if not path:
                raise ValueError("expected unix:/path")
            if len(path.encode()) > MAX_UNIX_PATH_BYTES:
                raise ValueError(
                    f"expected a socket path of at most {MAX_UNIX_PATH_BYTES} bytes; choose a shorter folder"
                )
            return value
        return _check_host_port(value)

    @field_validator("metrics_address")
    @classmethod
    def _check_metrics_address(cls, value: str | None) -> str | None:
        return None if value is None else _check_host_port(value)


def _check_host_port(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("expected host:port with a port from 0 to 65535, or unix:/path")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("expected an IPv6 host in brackets, e.g. [::1]:8000")
    return value
