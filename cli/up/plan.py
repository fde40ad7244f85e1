"""What to run for a mesh on this machine: one gateway, and so many replicas of each service, in so many threads."""

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.failure import CommandError
from cli.place import ROOT, models_dir
from cli.up.log_file import LogFile
from cli.up.process import ProcessPlan
from gateway.config import MeshFile, Service
from gateway.identity.key import KeyFileError, read_public_set
from shared.inference.signature import OWN_KEYS
from shared.settings import state_dir

DEFAULT_CONFIG = ROOT / "deploy" / "mesh.yaml"
# More processes than this on one machine is a typing error.
MAX_REPLICAS = 256
# Huge pages for tensors, kept with the process between calls: 3 % of the CPU of a call with a tensor of 600 kB (median
# of 8 rounds). Blocks of megabytes still go back at once: see `shared.rpc.allocator`.
TENSOR_MEMORY = "glibc.malloc.hugetlb=1:glibc.malloc.trim_threshold=268435456"


@dataclass(frozen=True)
class MeshPlan:
    """gateway and replicas: the processes. scopes: what the development token opens."""

    state: Path
    gateway: ProcessPlan
    replicas: tuple[ProcessPlan, ...]
    scopes: tuple[str, ...]

    @property
    def services(self) -> tuple[str, ...]:
        """Services that have replicas here."""
        return tuple(dict.fromkeys(replica.service for replica in self.replicas))


def parse_replicas(values: Sequence[str]) -> dict[str, int]:
    """`vision=2,nlp=1` (also given several times) as counts.

    Raises:
        CommandError: something else.
    """
    counts: dict[str, int] = {}
    for part in ",".join(values).split(","):
        if not part.strip():
            continue
        name, _, count = (piece.strip() for piece in part.partition("="))
        if not name or not count.isascii() or not count.isdigit() or int(count) > MAX_REPLICAS:
            expected = f"expected SERVICE=COUNT with a count from 0 to {MAX_REPLICAS}, e.g. vision=2"
            raise CommandError(f"--replicas: {expected}; got {part.strip()!r}", exit_code=2)
        counts[name] = int(count)
    return counts


def share_cores(cores: int, counts: Sequence[int]) -> list[int]:
    """Threads for each of `counts` replicas of a service, so that all replicas together have `cores` threads.

    At least one each. What does not divide goes to the first services.
    """
    total = sum(counts)
    if total == 0:
        return [1 for _ in counts]
    each, left = divmod(cores, total)
    threads = []
    for count in counts:
        more = 1 if each and 0 < count <= left else 0
        left -= count * more
        threads.append(max(1, each + more))
    return threads


def make_plan(
    file: MeshFile,
    state: Path,
    *,
    listen: str,
    admin_port: int | None,
    replicas: Mapping[str, int],
    cores: int,
    environ: Mapping[str, str],
) -> MeshPlan:
    """The processes for the mesh that `file` describes.

    listen: `host:port` of the gateway, port 0 = a free one. admin_port: None = as in the file. replicas: counts by
    service; one where nothing is said, none where the file lists replicas that run elsewhere.

    Raises:
        CommandError: a count for a service that is not in the file, or a service that cannot be run here.
        ConfigError: keys that the file names cannot be used.
    """
    services = {service.name: service for service in file.mesh.services}
    for name in replicas:
        if name not in services:
            known = ", ".join(services) or "none"
            raise CommandError(
                f"--replicas: {file.path} has no service '{name}'; it has {known}", exit_code=2
            )
    counts = {name: replicas.get(name, 0 if service.replicas else 1) for name, service in services.items()}
    _check_runnable(file, counts, state, environ)
    trust = _trust(file, state)
    threads = dict(zip(counts, share_cores(cores, list(counts.values())), strict=True))
    common = _environ(state, environ)
    gateway = {
        **common,
        "SENSORIUM_GATEWAY_CONFIG": str(file.path),
        "SENSORIUM_GATEWAY_STATE_DIR": str(state),
        "SENSORIUM_GATEWAY_LISTEN": listen,
        "SENSORIUM_GATEWAY_ADDRESS_FILE": str(_address_file(state, "gateway")),
    }
    if admin_port is not None:
        gateway["SENSORIUM_GATEWAY_ADMIN_PORT"] = str(admin_port)
    return MeshPlan(
        state=state,
        gateway=_process("gateway", "", "gateway", gateway, state),
        replicas=tuple(
            _process(
                f"{name}-{number}",
                name,
                f"services.{name.replace('-', '_')}",
                {
                    **common,
                    **_replica_environ(
                        f"{name}-{number}", services[name], threads[name], trust, state, environ
                    ),
                },
                state,
            )
            for name, count in counts.items()
            for number in range(count)
        ),
        scopes=tuple(
            dict.fromkeys(
                [
                    *(service.required_scope for service in services.values()),
                    file.mesh.mesh_scope,
                    file.mesh.admin_scope,
                ]
            )
        ),
    )


def has_models(service: str) -> bool:
    """Whether a service has a catalogue of models, or is code alone."""
    return (ROOT / "services" / service.replace("-", "_") / "models" / "catalog.toml").is_file()


def _check_runnable(
    file: MeshFile, counts: Mapping[str, int], state: Path, environ: Mapping[str, str]
) -> None:
    elsewhere = "" if state == state_dir(environ).resolve() else f" --state-dir {state}"
    for name, count in counts.items():
        if not count:
            continue
        module = f"services.{name.replace('-', '_')}.__main__"
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            hint = f"list its replicas in {file.path}, or start without: --replicas {name}=0"
            raise CommandError(f"service '{name}' has no code here (no module {module}); {hint}")
        own = environ.get(f"{_prefix(name)}INFERENCE__MODELS_DIR")
        folder = Path(own) if own else models_dir(state, name)
        if has_models(name) and not any(folder.glob("*/*/artifact.json")):
            raise CommandError(
                f"no model of '{name}' is pulled in {folder}: run sensorium models pull {name}{elsewhere}"
            )


def _environ(state: Path, environ: Mapping[str, str]) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), environ.get("PYTHONPATH", "")]))
    return {**environ, "SENSORIUM_STATE_DIR": str(state), "PYTHONPATH": path}


def _trust(file: MeshFile, state: Path) -> dict[str, str]:
    """Whose models are served: settings of replicas by the ends of their names."""
    artifacts = file.mesh.artifacts
    paths = [file.path.parent.absolute() / path for path in artifacts.trusted]
    for n, path in enumerate(paths):
        if not path.is_file():
            raise file.error(
                ("artifacts", "trusted", n),
                f"expected a file of public keys (a JWK set), got no file: {path}",
            )
        try:
            read_public_set(path)
        except KeyFileError as error:
            raise file.error(("artifacts", "trusted", n), str(error)) from error
    return {
        "INFERENCE__SIGNATURE__TRUSTED": json.dumps([str(path) for path in paths or [state / OWN_KEYS]]),
        "INFERENCE__SIGNATURE__REQUIRED": str(artifacts.required).lower(),
    }


def _replica_environ(
    name: str,
    service: Service,
    threads: int,
    trust: Mapping[str, str],
    state: Path,
    environ: Mapping[str, str],
) -> dict[str, str]:
    prefix = _prefix(service.name)
    # A port of its own for each: an address of the environment could serve one of them only.
    made = {
        f"{prefix}RPC__ADDRESS": "127.0.0.1:0",
        f"{prefix}RPC__ADDRESS_FILE": str(_address_file(state, name)),
    }
    if not has_models(service.name):
        return made
    defaults = {f"{prefix}INFERENCE__CORES": str(threads), "GLIBC_TUNABLES": TENSOR_MEMORY}
    defaults |= {f"{prefix}{end}": value for end, value in trust.items()}
    return made | {variable: value for variable, value in defaults.items() if not environ.get(variable)}


def _prefix(service: str) -> str:
    return f"SENSORIUM_{service.upper().replace('-', '_')}_"


def _address_file(state: Path, name: str) -> Path:
    return state / "run" / "address" / name


def _process(name: str, service: str, module: str, environ: Mapping[str, str], state: Path) -> ProcessPlan:
    return ProcessPlan(
        name=name,
        service=service,
        module=module,
        environ=environ,
        address_file=_address_file(state, name),
        log=LogFile(state / "log" / f"{name}.log"),
    )
