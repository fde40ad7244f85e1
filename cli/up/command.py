"""What `sensorium up` does before and after the supervisor: options, configuration, lock, token, ready line."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

from cli.output import stderr, warn
from cli.up.lock import only_one
from cli.up.plan import make_plan, parse_replicas
from cli.up.ready import Readiness
from cli.up.supervisor import Supervisor
from cli.up.token_file import ensure_token, token_path
from cli.up.variables import find_strays
from gateway.config import MeshFile, read_mesh
from shared.inference.settings import count_cores


def up(
    *,
    config: Path,
    state: Path,
    host: str | None,
    port: int | None,
    admin_port: int | None,
    replicas: Sequence[str],
    environ: Mapping[str, str] = os.environ,
) -> int:
    """Runs the mesh until it is told to stop, and returns the exit code; prints one line on stdout when it is ready.

    Raises:
        CommandError, StartupError: it cannot start; the text is the reason.
    """
    file = read_mesh(config.resolve())
    counts = parse_replicas(replicas)
    listen, admin_port = _addresses(file, host, port, admin_port)
    plan = make_plan(
        file,
        state,
        listen=listen,
        admin_port=admin_port,
        replicas=counts,
        cores=count_cores(),
        environ=environ,
    )
    for line in find_strays(environ, [service.name for service in file.mesh.services]):
        warn(line)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    own_keys = file.mesh.auth.jwks is None

    def token() -> str:
        if not own_keys:
            return environ.get("SENSORIUM_TOKEN", "")
        auth = file.mesh.auth
        path = ensure_token(state, plan.scopes, issuer=auth.issuer, audience=auth.audience)
        return path.read_text(encoding="utf-8").strip()

    def on_ready(address: str, found: Readiness) -> None:
        if found.failed:
            warn(f"not serving: {'; '.join(found.failed)}")
        where = f"token in {token_path(state)}" if own_keys else f"tokens by {file.mesh.auth.issuer}"
        print(f"Sensorium is ready at http://{_reachable(address)} ({where})", flush=True)

    with only_one(state):
        token()
        if stderr().is_terminal:
            # Loading models takes seconds, in which somebody watches.
            warn(f"starting the gateway and {', '.join(plan.services) or 'no replicas'}…")
        return asyncio.run(Supervisor(plan, note=warn, token=token).run(on_ready))


def _addresses(
    file: MeshFile, host: str | None, port: int | None, admin_port: int | None
) -> tuple[str, int | None]:
    """(where the gateway listens, its admin port). A second mesh, on another port, gets a free admin port."""
    own_host, _, own_port = file.mesh.listen.rpartition(":")
    shown = f"[{host}]" if host and ":" in host and not host.startswith("[") else host
    listen = f"{shown or own_host}:{own_port if port is None else port}"
    if admin_port is None and port is not None and str(port) != own_port:
        admin_port = 0
    return listen, admin_port


def _reachable(address: str) -> str:
    """The address that a client on this machine uses: nobody connects to `every interface`."""
    host, _, port = address.rpartition(":")
    try:
        ip = ip_address(host.strip("[]"))
    except ValueError:
        return address
    if not ip.is_unspecified:
        return address
    return f"127.0.0.1:{port}" if ip.version == 4 else f"[::1]:{port}"
