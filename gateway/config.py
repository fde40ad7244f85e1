"""`mesh.yaml`: what the operator writes, checked, with line and key in every complaint.

Reads and validates only; what the keys do is said beside each. Environment variables of a process are in
`gateway.settings`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from gateway.identity.token import AUDIENCE, DEFAULT_TIER, ISSUER
from shared.errors import StartupError

MIB = 1 << 20
# Errors shown of one file: the first few are usually one mistake.
MAX_SHOWN = 3
# Longest value quoted back, in characters.
MAX_QUOTED = 80

MAX_PORT = 65_535
_ADDRESS = r"^(unix:/.+|[^\s:]+:\d{1,5}|\[[0-9a-fA-F:.]+\]:\d{1,5})$"
# A host name that is looked up, with the port of all that it stands for.
_NAMED = r"^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?:\d{1,5}$"


def _check_port(address: str) -> str:
    if not is_address(address):
        raise ValueError(f"expected a port up to {MAX_PORT}, got {address.rpartition(':')[2]}")
    return address


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
GrpcName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+$")]
Address = Annotated[str, Field(pattern=_ADDRESS), AfterValidator(_check_port)]
Scope = Annotated[str, Field(pattern=r"^[!-~]+$")]


class _Loader(yaml.SafeLoader):
    """Takes no aliases: nobody needs them here, and a few lines of them stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(problem="aliases are not taken", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


def is_address(text: str) -> bool:
    """Whether `text` is `host:port` or `unix:/path`."""
    if re.fullmatch(_ADDRESS, text) is None:
        return False
    return text.startswith("unix:") or int(text.rpartition(":")[2]) <= MAX_PORT


def check_listen(text: str) -> str:
    """`text`, if Envoy can listen there: an IP address and a port; it looks no name up. Raises ValueError."""
    if text.startswith("unix:"):
        raise ValueError("expected host:port, got a Unix socket")
    if not is_address(text):
        raise ValueError(f"expected host:port with a port up to {MAX_PORT}, e.g. 127.0.0.1:8080")
    host = text.rpartition(":")[0]
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        raise ValueError(
            "expected an IP address of this machine, e.g. 127.0.0.1 or 0.0.0.0; names are not looked up"
        ) from None
    return text


class ConfigError(StartupError):
    """`mesh.yaml` is not as expected; the text names file, line and key."""


class Section(BaseModel):
    """A mapping of the file: unknown keys are mistakes, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Timeouts(Section):
    """How long a call may take, in seconds, from its first byte at the gateway."""

    # For callers that name no timeout.
    default_s: float = Field(default=30.0, gt=0, le=86_400)
    # What a caller's own timeout is cut to; also the default of replies that stream.
    max_s: float = Field(default=300.0, gt=0, le=86_400)
    # How long a stream of requests may last, busy or not; also the default of one.
    stream_s: float = Field(default=3_600.0, gt=0, le=86_400)


class Service(Section):
    """A set of equal replicas and the gRPC services they answer."""

    name: Name
    grpc: tuple[GrpcName, ...] = Field(min_length=1)
    # Addresses that never change; those that do come through the endpoints folder.
    replicas: tuple[Address, ...] = ()
    # A name and a port, `vision:50051`: every address that the name stands for is a replica, as they come and go (a
    # service of Docker Compose, a headless Service of Kubernetes).
    dns: Annotated[str, Field(pattern=_NAMED)] | None = None
    # The scope a token needs; the service's name if left out.
    scope: Scope | None = None
    # A descriptor set that declares `grpc`, relative to this file; the gateway's own if left out.
    descriptors: Path | None = None
    # What differs from the mesh's own.
    timeouts: Timeouts | None = None

    @property
    def required_scope(self) -> str:
        """The scope a token needs to call it."""
        return self.scope or self.name


class Auth(Section):
    """Whose tokens are accepted."""

    issuer: str = Field(default=ISSUER, min_length=1)
    audience: str = Field(default=AUDIENCE, min_length=1)
    # Public keys, relative to this file; `<state>/keys/jwks.json` if left out.
    jwks: Path | None = None
    # What may be called without a token. Health is open because load balancers carry none; reflection is not,
    # because it lists the whole interface.
    open: tuple[Literal["health", "reflection"], ...] = ("health",)
    # How far the clocks of issuer and gateway may differ, in seconds.
    clock_skew_s: int = Field(default=5, ge=0, le=300)


class Artifacts(Section):
    """Whose models the replicas of this machine serve."""

    # Public keys (JWK sets), relative to this file, whose signatures on artifacts are trusted; this machine's own,
    # `<state>/keys/artifacts/jwks.json`, if left out.
    trusted: tuple[Path, ...] = ()
    # Whether an artifact without a signature is refused. One that has a signature must have a right one in any case.
    required: bool = True


class Bucket(Section):
    """A token bucket: calls a second in the long run, and at once."""

    per_s: float = Field(gt=0, le=1_000_000)
    burst: int = Field(gt=0, le=10_000_000)


class RateLimits(Section):
    """Bounds per client (a token's `sub`), by the tier its token names."""

    # Tiers that are not listed are treated as `default`.
    tiers: dict[Name, Bucket] = {}
    # Bucket of a tier that is not listed.
    default: Bucket = Bucket(per_s=1000, burst=2000)
    # Calls without a token (health), per client address.
    anonymous: Bucket = Bucket(per_s=20, burst=40)
    # Clients that have a bucket of their own at the same time. Beyond it the longest unused bucket is dropped, and
    # its client starts with a full one: keep it above the number of clients.
    max_clients: int = Field(default=10_000, ge=1, le=1_000_000)


class Limits(Section):
    """What one gateway takes at once."""

    # Largest message of either direction.
    max_message_bytes: int = Field(default=32 * MIB, ge=1024, le=1024 * MIB)
    max_connections: int = Field(default=4_096, ge=1)
    # Calls in flight on one HTTP/2 connection.
    max_streams: int = Field(default=256, ge=1, le=100_000)
    # Memory for messages under way. At 85 % of it new calls are refused, from 95 % on the largest are reset. Several
    # messages must fit.
    max_heap_bytes: int = Field(default=2048 * MIB, ge=64 * MIB)
    # A connection without calls is closed after this long.
    idle_s: float = Field(default=600.0, gt=0)
    # A connection this old, or up to a fifth older, takes no new call, so that its caller opens another one, which may go to
    # a gateway that came since; calls in flight end on it. 0 means never.
    max_connection_age_s: float = Field(default=300.0, ge=0, le=86_400)
    # Of one replica set: calls in flight beyond which more are refused.
    max_in_flight: int = Field(default=4_096, ge=1)


class Retries(Section):
    """Second tries, on another replica. Only what may be repeated (`idempotency_level`) is repeated."""

    attempts: int = Field(default=5, ge=0, le=20)
    # Retries in flight may be this share of the calls in flight …
    budget_percent: float = Field(default=20.0, ge=0, le=100)
    # … or this many, whichever is more: with few callers a share is less than one call.
    min_concurrency: int = Field(default=100, ge=0)


class HealthChecks(Section):
    """How Envoy asks replicas for their health, beside what they say of themselves."""

    interval_s: float = Field(default=1.0, gt=0)
    timeout_s: float = Field(default=3.0, gt=0)
    unhealthy_after: int = Field(default=3, ge=1)


class Mesh(Section):
    """The whole file."""

    listen: Address = "127.0.0.1:8080"
    # State of the data plane, read-only, on loopback only; 0 means any free port.
    admin_port: int = Field(default=9901, ge=0, le=MAX_PORT)
    # Where Prometheus may ask for /metrics (the data plane's) and /metrics/control; nowhere if left out. Who may reach it
    # is told nothing of callers but their number, and asked for no token.
    metrics: Address | None = None
    services: tuple[Service, ...] = ()
    # Scope of MeshService.
    mesh_scope: Scope = "mesh"
    # Scope of what loads and unloads models, and changes how replicas log and trace.
    admin_scope: Scope = "admin"
    auth: Auth = Auth()
    artifacts: Artifacts = Artifacts()
    rate_limits: RateLimits = RateLimits()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    retries: Retries = Retries()
    health_checks: HealthChecks = HealthChecks()
    # Origins whose pages may call (gRPC-Web, fetch), e.g. `https://app.example.com`; none if left out.
    cors_origins: tuple[str, ...] = ()
    # File for one JSON line per call, relative to this file; `/dev/stdout` works too, none if left out.
    access_log: Path | None = None

    @field_validator("listen", "metrics")
    @classmethod
    def _listen_is_a_port(cls, value: str | None) -> str | None:
        return value if value is None else check_listen(value)


Place = tuple[str | int, ...]


class MeshFile:
    """A parsed `mesh.yaml` that can say where in the text each of its values stands."""

    def __init__(self, path: Path, mesh: Mesh, lines: dict[Place, int]) -> None:
        self.path, self.mesh, self._lines = path, mesh, lines

    def error(self, place: Place, text: str) -> ConfigError:
        """A complaint about the value at `place`, e.g. `("services", 0, "grpc")`."""
        return ConfigError(_complaint(self.path, self._lines, place, text))

    def resolve(self, path: Path) -> Path:
        """A path of the file, which is relative to the file's own folder."""
        return path if path.is_absolute() else self.path.parent / path


def read_mesh(path: Path) -> MeshFile:
    """Reads and checks `path`. Raises ConfigError with line and key of what is wrong."""
    try:
        root = yaml.compose(path.read_text(), Loader=_Loader)
        document = yaml.SafeLoader("").construct_document(root) if root is not None else None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: expected text in UTF-8, got {error.reason} at byte {error.start}"
        ) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {str(error).splitlines()[0]}") from error
    except (ValueError, RecursionError) as error:
        # A date that is none, a number too long to read, brackets without end.
        raise ConfigError(f"{path}: a value cannot be read: {error}") from error
    lines: dict[Place, int] = {(): 1}
    if root is None:
        raise ConfigError(f"{path}:1: expected a mapping with `services`, got an empty file")
    _mark(path, root, (), lines)
    if not isinstance(document, dict):
        raise ConfigError(f"{path}:1: expected a mapping with `services`, got {type(document).__name__}")
    try:
        mesh = Mesh.model_validate(document)
    except ValidationError as error:
        raise ConfigError(_explain(path, lines, error)) from error
    if mesh.access_log:
        mesh = mesh.model_copy(update={"access_log": path.parent.absolute() / mesh.access_log})
    file = MeshFile(path, mesh, lines)
    _check(file)
    return file


def _check(file: MeshFile) -> None:
    """What one value cannot say alone. Raises ConfigError."""
    names: dict[str, int] = {}
    owners: dict[str, str] = {}
    reserved = {"mesh", "control", "admin"}
    for n, service in enumerate(file.mesh.services):
        if service.name in reserved:
            raise file.error(("services", n, "name"), f'"{service.name}" is a name of the gateway\'s own')
        if service.name in names:
            raise file.error(
                ("services", n, "name"), f'"{service.name}" is already services[{names[service.name]}]'
            )
        names[service.name] = n
        for m, grpc in enumerate(service.grpc):
            if grpc in owners:
                raise file.error(
                    ("services", n, "grpc", m),
                    f"{grpc} is already answered by {owners[grpc]}; one service answers it",
                )
            owners[grpc] = service.name
        if service.timeouts and service.timeouts.default_s > service.timeouts.max_s:
            raise file.error(("services", n, "timeouts", "default_s"), "expected at most max_s, got more")
    if file.mesh.timeouts.default_s > file.mesh.timeouts.max_s:
        raise file.error(("timeouts", "default_s"), "expected at most max_s, got more")
    if DEFAULT_TIER in file.mesh.rate_limits.tiers:
        raise file.error(("rate_limits", "tiers", DEFAULT_TIER), "set rate_limits.default instead")


def _mark(path: Path, node: yaml.Node, place: Place, lines: dict[Place, int]) -> None:
    lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = (*place, str(key.value))
            if name in lines:
                raise ConfigError(
                    f"{path}:{key.start_mark.line + 1}: {_key(name)}: stands here twice, first in line {lines[name]}"
                )
            _mark(path, value, name, lines)
            lines[name] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for n, value in enumerate(node.value):
            _mark(path, value, (*place, n), lines)


def _explain(path: Path, lines: dict[Place, int], error: ValidationError) -> str:
    found = error.errors(include_url=False)
    shown = []
    for one in found[:MAX_SHOWN]:
        place: Place = tuple(one["loc"])
        if one["type"] == "extra_forbidden":
            known = ", ".join(_known_keys(place[:-1]))
            text = f"unknown key; those that exist: {known}"
        elif one["type"] == "missing":
            text = "required, and not there"
        else:
            got = repr(one["input"])
            got = got if len(got) <= MAX_QUOTED else f"{got[:MAX_QUOTED]}…"
            message = one["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            text = f"expected {message}, got {got}" if "expected" not in message else message
        shown.append(_complaint(path, lines, place, text))
    more = f" (and {len(found) - MAX_SHOWN} more)" if len(found) > MAX_SHOWN else ""
    return " | ".join(shown) + more


def _known_keys(place: Place) -> Sequence[str]:
    section: type[Section] = Mesh
    inside: dict[str, type[Section]] = {
        "services": Service, "auth": Auth, "artifacts": Artifacts, "rate_limits": RateLimits, "timeouts": Timeouts,
        "limits": Limits, "retries": Retries, "health_checks": HealthChecks, "tiers": Bucket, "default": Bucket,
        "anonymous": Bucket,
    }  # fmt: skip
    for part in place:
        if isinstance(part, str):
            section = inside.get(part, section)
    return sorted(section.model_fields)


def _complaint(path: Path, lines: dict[Place, int], place: Place, text: str) -> str:
    # A key that is missing, or that pydantic added to the path, stands where its nearest parent does.
    known = place
    while known not in lines:
        known = known[:-1]
    return f"{path}:{lines[known]}: {_key(place) or 'the file'}: {text}"


def _key(place: Place) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
