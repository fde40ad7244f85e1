"""Where the mesh is and who asks: address, token and channel, from arguments, the environment, or the state folder.

address   SENSORIUM_ADDRESS, else 127.0.0.1:8080. `host:port`, `http://…`, `https://…` (TLS) or `unix:/path`.
token     SENSORIUM_TOKEN, else the file SENSORIUM_TOKEN_FILE, else `<state>/token`, which `sensorium up` writes.
          That last one is the local mesh's own: it is only ever sent to this machine.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import urlsplit

import grpc

DEFAULT_ADDRESS = "127.0.0.1:8080"
_LOOPBACK = re.compile(r"unix:.*|(127(\.\d{1,3}){3}|localhost|\[::1\]):\d+")

# What goes first where work waits.
Priority = Literal["interactive", "batch"]
_PRIORITY_HEADER = "x-sensorium-priority"
# Two large images and their reply fit; what a mesh accepts is its own matter (`Client.limits()`).
_MAX_MESSAGE_BYTES = 128 * 2**20
_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    # Finds a dead peer while a call waits. gRPC servers take three pings without data in five minutes for abuse.
    ("grpc.keepalive_time_ms", 120_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.primary_user_agent", "sensorium-python/0.1.0"),
)
# What is tried again, how often and after which waits: one policy for the clients of all languages.
_SERVICE_CONFIG = "service_config.json"


def channel_options(*, retries: bool) -> tuple[tuple[str, int | str], ...]:
    """The options of a channel. retries: calls without side effects are tried again when the mesh says or seems so."""
    if not retries:
        return (*_OPTIONS, ("grpc.enable_retries", 0))
    return (
        *_OPTIONS,
        ("grpc.service_config", (files("sensorium") / _SERVICE_CONFIG).read_text("utf-8")),
        # A request that is larger is not kept, and so not sent twice. By default that were 256 KiB: less than a photo.
        ("grpc.per_rpc_retry_buffer_size", _MAX_MESSAGE_BYTES),
    )


class Token(Protocol):
    """Something that knows the token to send now."""

    def read(self) -> str:
        """The token; empty sends none. Raises OSError if its file cannot be read."""


@dataclass(frozen=True)
class FixedToken:
    """A token that was given as text."""

    text: str

    def read(self) -> str:
        """See Token."""
        return self.text


class FileToken:
    """A token in a file that may be replaced while the client lives: read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] = (-1, -1)
        self._text = ""

    def read(self) -> str:
        """See Token. Raises ValueError if the file holds something else."""
        stat = self._path.stat()
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if stamp != self._stamp:
            text = self._path.read_bytes().strip()
            # What no header can carry would fail without a word about where it came from.
            if any(not 0x20 <= byte <= 0x7E for byte in text):
                raise ValueError(
                    f"{self._path}: expected a token, got something else; replace the file's content"
                )
            self._text = text.decode("ascii")
            self._stamp = stamp
        return self._text


@dataclass(frozen=True)
class Connection:
    """How to reach the mesh. target: as gRPC takes it. token: what to send."""

    target: str
    secure: bool
    token: Token
    root_certificates: bytes | None = None

    def metadata(self, priority: Priority = "interactive") -> tuple[tuple[str, str], ...]:
        """The metadata of one call. Raises OSError if the token's file cannot be read, ValueError for another priority."""
        token = self.token.read()
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        if priority == "interactive":
            return metadata
        if priority != "batch":
            raise ValueError(f"priority: expected `interactive` or `batch`, got {priority!r}")
        return (*metadata, (_PRIORITY_HEADER, priority))

    def credentials(self) -> grpc.ChannelCredentials:
        """What a TLS channel needs."""
        return grpc.ssl_channel_credentials(self.root_certificates)

    def options(self, *, retries: bool) -> tuple[tuple[str, int | str], ...]:
        """`channel_options`; and no proxy of the environment stands between this machine and itself."""
        proxy = (("grpc.enable_http_proxy", 0),) if _LOOPBACK.fullmatch(self.target) else ()
        return (*channel_options(retries=retries), *proxy)

    def open_channel(self, *, retries: bool = True) -> grpc.Channel:
        """A channel for the generated stubs; send `metadata()` with every call. retries: see `channel_options`."""
        options = self.options(retries=retries)
        if self.secure:
            return grpc.secure_channel(self.target, self.credentials(), options)
        return grpc.insecure_channel(self.target, options)


def connection(
    address: str | None = None,
    token: str | None = None,
    *,
    secure: bool | None = None,
    root_certificates: bytes | None = None,
    environ: Mapping[str, str] | None = None,
) -> Connection:
    """Puts together what was given and what the environment says.

    address: see the module. secure: TLS or not; None lets the address say. root_certificates: PEM, for a mesh
    whose certificate is of a private authority; None means the system's. token: "" sends none.

    Raises:
        ValueError: an address that is none.
    """
    environ = os.environ if environ is None else environ
    given = address or environ.get("SENSORIUM_ADDRESS") or DEFAULT_ADDRESS
    target, scheme_secure = _parse(given)
    if secure is not None and scheme_secure is not None and secure != scheme_secure:
        raise ValueError(f"address: {given} and secure={secure} contradict each other")
    return Connection(
        target=target,
        secure=bool(scheme_secure if secure is None else secure),
        token=_find_token(token, target, environ),
        root_certificates=root_certificates,
    )


def state_dir(environ: Mapping[str, str]) -> Path:
    """Where `sensorium up` keeps its token, as the server side defines it."""
    if environ.get("SENSORIUM_STATE_DIR"):
        return Path(environ["SENSORIUM_STATE_DIR"]).expanduser()
    home = environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "sensorium"


def _parse(address: str) -> tuple[str, bool | None]:
    """(gRPC target, TLS or not or not said)."""
    if address.startswith("unix:"):
        return address, None
    scheme, separator, _ = address.partition("://")
    if not separator:
        scheme = ""
    if scheme not in ("", "http", "https"):
        raise ValueError(f"address: expected host:port, http://…, https://… or unix:/path, got {address!r}")
    try:
        parts = urlsplit(address if separator else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"address: {address!r}: {error}") from error
    if not host or parts.path not in ("", "/") or parts.query or parts.username:
        raise ValueError(f"address: expected host:port, got {address!r}")
    if port is None:
        if not scheme:
            raise ValueError(f"address: expected host:port, got {address!r} without a port")
        port = 443 if scheme == "https" else 80
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}", None if not scheme else scheme == "https"


def _find_token(token: str | None, target: str, environ: Mapping[str, str]) -> Token:
    if token is not None:
        return FixedToken(token.strip())
    if environ.get("SENSORIUM_TOKEN"):
        return FixedToken(environ["SENSORIUM_TOKEN"].strip())
    if environ.get("SENSORIUM_TOKEN_FILE"):
        return FileToken(Path(environ["SENSORIUM_TOKEN_FILE"]).expanduser())
    path = state_dir(environ) / "token"
    if _LOOPBACK.fullmatch(target) and path.is_file():
        return FileToken(path)
    return FixedToken("")
