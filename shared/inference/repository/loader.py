"""One version at a time from its folder to a model that answers, or to the reason why it does not.

Here: the threads of loading, what is counted and logged of it. Not here: the checks (`loading.py`), what is loaded when
(`upkeep.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeAlias, TypeVar

from shared.errors import let_go
from shared.inference.artifact import ArtifactError
from shared.inference.datatypes import Array
from shared.inference.isolation.isolation import Isolation
from shared.inference.model import Model
from shared.inference.repository.catalog import Catalog, list_defaults
from shared.inference.repository.golden import GoldenError
from shared.inference.repository.loading import QuarantinedError, load_model
from shared.inference.repository.retirement import Retirement
from shared.inference.repository.room import RoomError
from shared.inference.repository.versions import Folder
from shared.inference.repository.warming import warm_up
from shared.inference.session.cores import CoreBudget
from shared.inference.session.session import RunError, SessionError
from shared.inference.settings import InferenceSettings
from shared.inference.signature import SignatureError
from shared.rpc.allocator import give_back_free_memory
from shared.telemetry.logging import get_logger

_log = get_logger("inference")

# Why a version was refused, in one word for metrics; the first that fits.
_KINDS: Mapping[type[Exception], str] = {
    QuarantinedError: "quarantined",
    RoomError: "memory",
    GoldenError: "golden",
    SignatureError: "signature",
    ArtifactError: "artifact",
    SessionError: "graph",
    RunError: "warm-up",
}

GoldenInputs: TypeAlias = Mapping[str, Mapping[str, Array]]  # by graph, then by input
T = TypeVar("T")


class Part(Protocol):
    """What a service makes of the models of an rpc, see `per_artifact.py`."""

    rpc: str

    async def prepare(self, model: Model) -> object:
        """Make it of a model; raises ArtifactError where it cannot be made."""


class RefusedError(Exception):
    """A version must not serve; the text is the reason."""


class Loader:
    """The threads on which models are loaded. Made and used on one event loop."""

    def __init__(
        self, service: str, settings: InferenceSettings, catalog: Catalog, isolation: Isolation
    ) -> None:
        self._service = service
        self._settings = settings
        self._catalog = catalog
        self._isolation = isolation
        # What runs at a time of all models together; a repository is all that a process runs.
        self._cores = CoreBudget(settings.cores)
        self.parts: list[Part] = []
        self._pool = ThreadPoolExecutor(settings.load_threads, thread_name_prefix="loading")
        # By model, version, and `ready` or the kind of refusal.
        self.outcomes: Counter[tuple[str, str, str]] = Counter()

    async def load(
        self, name: str, version: str, folder: Folder, *, warm: bool
    ) -> tuple[Model, GoldenInputs]:
        """Load a version. With `warm` it has run batches, is measured, and services have made of it what they need;
        else that is left to `measure` and to first calls.

        Gives the golden inputs, too; none without the golden check.

        Raises:
            RefusedError: it must not serve.
        """
        started_s = time.monotonic()
        try:
            model, inputs = await self._load(folder, warm=warm)
        except tuple(_KINDS) as error:
            kind = next(word for kind, word in _KINDS.items() if isinstance(error, kind))
            reason = str(error)
            # Its frames name the sessions that were opened.
            let_go(error)
        # Whatever else a damaged file can provoke in a parser must not stop the other models.
        except Exception as error:  # noqa: BLE001
            _log.exception("model failed to load unexpectedly", model=name, version=version)
            kind = "unexpected"
            reason = f"loading failed unexpectedly ({type(error).__name__}); the log has the stack"
            let_go(error)
        else:
            self.outcomes[name, version, "ready"] += 1
            _log.info(
                "model ready",
                model=name,
                version=version,
                provider=model.provider,
                signed_by=model.signed_by or "nobody",
                duration_s=round(time.monotonic() - started_s, 3),
            )
            return model, inputs
        self.outcomes[name, version, kind] += 1
        _log.error("model unavailable", model=name, version=version, kind=kind, reason=reason)
        # What was opened of it before it was refused.
        await self.run(give_back_free_memory)
        raise RefusedError(reason)

    async def measure(self, model: Model, inputs: GoldenInputs) -> None:
        """Find out how a model's batches are best made. It may answer calls meanwhile."""
        try:
            await self.run(self._measure, model, inputs)
        except RunError as error:
            _log.warning("batches of a model could not be measured", model=model.name, reason=str(error))

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a function on one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    def close(self) -> None:
        """Begin nothing more. A graph that is being opened cannot be interrupted: its thread ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _load(self, folder: Folder, *, warm: bool) -> tuple[Model, GoldenInputs]:
        loaded = await self.run(load_model, folder.path, self._service, self._settings, self._isolation)
        model = Model(loaded, self._isolation, self._cores)
        inputs = loaded.golden_inputs
        if not warm:
            return model, inputs
        done = False
        try:
            await self.run(self._warm_up, model, inputs)
            rpcs = {model.artifact.task, *list_defaults(self._catalog, model.artifact.name)}
            for part in self.parts:
                if part.rpc in rpcs:
                    await part.prepare(model)
            done = True
        finally:
            # Refused or cancelled, its threads would stay.
            if not done:
                ending = Retirement(model)
                ending.cut()
                await ending.end(0.0)
        return model, inputs

    # On a thread.

    def _warm_up(self, model: Model, inputs: GoldenInputs) -> None:
        artifact = model.artifact
        with self._isolation.loading(model.name, artifact.version, artifact.digest):
            graphs = {key: graph.loaded for key, graph in model.graphs.items()}
            taken = warm_up(graphs, inputs)
        _log.info("model warmed up", model=model.name, version=artifact.version, seconds_by_rows=taken)
        self._measure(model, inputs)

    def _measure(self, model: Model, inputs: GoldenInputs) -> None:
        artifact = model.artifact
        with self._isolation.loading(model.name, artifact.version, artifact.digest):
            model.measure_batches(inputs)
        give_back_free_memory()
