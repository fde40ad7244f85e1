"""Whether an address can be listened on, said in one line before either front tries and says it in several.

The fronts would bind over a running neighbour in two ways: grpcio shares a port through SO_REUSEPORT, and
both replace the file of a Unix socket that somebody is listening on.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from shared.errors import StartupError

# How long a neighbour on a Unix socket gets to accept a connection before it counts as gone.
_CONNECT_TIMEOUT_S = 1.0


class AddressError(StartupError):
    """The address cannot be listened on; the text names it and the reason."""


def check_address(address: str) -> None:
    """Raises AddressError unless `address` (`host:port` or `unix:/path`) is free and ours to listen on.

    A socket file that nobody listens on is fine: the front replaces it. Between this check and the front's
    own bind another process may still take the address; the front then fails, see `describe_failure`.
    """
    if address.startswith("unix:"):
        _check_unix(address)
    else:
        _check_tcp(address)


def describe_failure(address: str) -> AddressError:
    """The reason why a front could not bind `address`, found by trying once more."""
    try:
        check_address(address)
    except AddressError as error:
        return error
    return AddressError(f"cannot listen on {address}; choose another address")


def split_address(address: str) -> tuple[str, int]:
    """Host (without brackets) and port of `host:port`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _check_tcp(address: str) -> None:
    host, port = split_address(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        reason = (error.strerror or "unknown").lower()
        raise AddressError(f"cannot listen on {address}: the host is unknown ({reason})") from error
    family, kind, protocol, _, where = found[0]
    with socket.socket(family, kind, protocol) as probe:
        # As the fronts do it: ports in TIME_WAIT are free, ports that somebody listens on are not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
            probe.listen(1)
        except OSError as error:
            raise AddressError(_explain(address, error)) from error


def _check_unix(address: str) -> None:
    path = Path(address.removeprefix("unix:").removeprefix("//"))
    if not path.parent.is_dir():
        raise AddressError(f"cannot listen on {address}: the folder {path.parent} does not exist; create it")
    if not path.exists():
        if not os.access(path.parent, os.W_OK):
            raise AddressError(f"cannot listen on {address}: the folder {path.parent} is not writable")
        return
    if not path.is_socket():
        raise AddressError(f"cannot listen on {address}: there is a file that is no socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return
        except OSError as error:
            raise AddressError(_explain(address, error)) from error
    raise AddressError(f"address {address} is in use; stop its owner or choose another")


def _explain(address: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"address {address} is in use; stop its owner or choose another"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"cannot listen on {address}: not permitted; choose a port from 1024 on"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {address}: this machine has no such address"
    return f"cannot listen on {address}: {os.strerror(error.errno or 0).lower()}"
