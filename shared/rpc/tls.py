"""TLS on a replica's own port: the server's certificate, and whose clients are let in.

For a replica that no Envoy stands before; only grpcio's front can do it. Files that change are read anew at the next
handshake, so that certificates are renewed without a restart.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from shared.errors import StartupError
from shared.rpc.settings import RpcSettings
from shared.telemetry.logging import get_logger

__all__ = ["TlsError", "make_credentials"]

_log = get_logger("rpc")


class TlsError(StartupError):
    """TLS cannot be served; the text says which file or setting is wrong and what to do."""


def make_credentials(settings: RpcSettings) -> grpc.ServerCredentials | None:
    """Credentials by the settings, None where there is to be no TLS.

    Raises TlsError if the front cannot do it, or a file cannot be used.
    """
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        return None
    if settings.front == "native":
        raise TlsError(
            "the native front serves no TLS: let it listen on a Unix socket behind an Envoy that does, or set "
            "RPC__FRONT=grpcio"
        )
    files = _Files(settings.tls_certificate_file, settings.tls_key_file, settings.tls_client_ca_file)
    first = files.read()
    return grpc.dynamic_ssl_server_credentials(
        first,
        files.fetch,  # type: ignore[arg-type]  # it may give None, which grpc's types leave out
        require_client_authentication=settings.tls_client_ca_file is not None,
    )


class _Files:
    """The files of one port, and how they were when they were read."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._seen: tuple[tuple[int, int], ...] = ()

    def read(self) -> grpc.ServerCertificateConfiguration:
        """What they hold now. Raises TlsError if they do not fit together."""
        self._seen = self._look()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for what, file in (
            ("certificate", self._certificate),
            ("key", self._key),
            ("client CA", self._client_ca),
        ):
            if file is not None and not file.is_file():
                raise TlsError(f"TLS {what}: no file {file}; expected PEM")
        try:
            context.load_cert_chain(self._certificate, self._key)
        except (ssl.SSLError, OSError) as error:
            raise TlsError(
                f"TLS certificate {self._certificate} and key {self._key}: expected PEM files that belong together, "
                f"got {_explain(error)}"
            ) from error
        authorities = None
        if self._client_ca is not None:
            try:
                context.load_verify_locations(self._client_ca)
            except (ssl.SSLError, OSError) as error:
                raise TlsError(
                    f"TLS client CA {self._client_ca}: expected certificates as PEM, got {_explain(error)}"
                ) from error
            authorities = self._client_ca.read_bytes()
        pair = (self._key.read_bytes(), self._certificate.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=authorities)

    def fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC before each handshake, on a thread of its own: what changed, None if nothing did."""
        try:
            if self._look() == self._seen:
                return None
            return self.read()
        except (TlsError, OSError) as error:
            # Half of them written, most likely: the next handshake looks again.
            self._seen = ()
            _log.warning("TLS files changed and cannot be used; the old ones serve on", reason=str(error))
            return None

    def _look(self) -> tuple[tuple[int, int], ...]:
        present = (file for file in (self._certificate, self._key, self._client_ca) if file is not None)
        stats = [file.stat() for file in present if file.exists()]
        return tuple((stat.st_ino, stat.st_mtime_ns) for stat in stats)


def _explain(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return str(reason).replace("_", " ").lower()
