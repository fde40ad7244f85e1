"""The models of one service: which are known, which of them answer, and why the others do not.

Here: finding versions, loading them in the background, names. Not here: the checks (`loading.py`), running
(`shared.inference.model`). One model that cannot be loaded never stops another; a version that cannot be loaded leaves the
one before it serving.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sensorium.mesh.v1 import replica_service_pb2 as pb

from shared.errors import InvalidArgument, NotFound, Unavailable
from shared.inference.artifact import ArtifactError
from shared.inference.datatypes import Array
from shared.inference.model import Model, ServedGraph, graph_name
from shared.inference.repository.catalog import Catalog
from shared.inference.repository.loading import load_model
from shared.inference.repository.versions import LOADING, READY, UNAVAILABLE, State, Version, find_versions
from shared.inference.session.session import RunError, SessionError
from shared.inference.settings import InferenceSettings
from shared.telemetry.logging import get_logger

__all__ = ["Model", "Repository", "Version"]

_log = get_logger("inference")

# When to ask again for a model that is being loaded (seconds, each), and for one that somebody must mend
# first.
_RETRY_LOADING_S, _RETRY_BROKEN_S = 1.0, 30.0


class Repository:
    """All models of one service. Made and used on one event loop."""

    def __init__(
        self,
        models_dir: Path,
        service: str,
        settings: InferenceSettings,
        catalog: Catalog,
        *,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        """List what is there; nothing is loaded yet. `on_change` is called after every change of a state."""
        self.service = service
        self.on_change = on_change
        self._settings = settings
        self._catalog = catalog
        # Model -> its versions worth telling of, newest first.
        self._versions: dict[str, list[Version]] = {}
        self._older: dict[str, list[Version]] = {}
        for name, found in find_versions(models_dir, catalog).items():
            # Only the newest is told of, until it fails and the one before it is tried.
            self._versions[name], self._older[name] = found[:1], found[1:]
        # Models that answer but are still to be measured, with their golden inputs.
        self._unmeasured: list[tuple[Model, Mapping[str, Mapping[str, Array]]]] = []
        self._loading: asyncio.Task[None] | None = None
        self._pool = ThreadPoolExecutor(settings.load_threads, thread_name_prefix="loading")
        self._closed = False

    # Loading.

    def start(self) -> None:
        """Load all models in the background; calls for one that is not loaded yet are answered UNAVAILABLE."""
        self._loading = asyncio.get_running_loop().create_task(self.load_all())

    async def load_all(self) -> None:
        """Load every model that is on disk, some at a time, those first that are the default of a call.

        Returns when each is measured or has a reason why it does not serve; each is ready long before that.
        """
        defaults_first = sorted(self._versions, key=lambda name: not self._default_for(name))
        await asyncio.gather(*(self._load(name) for name in defaults_first))
        # Half of the work of loading, and not needed for an answer: only when every model answers.
        while self._unmeasured:
            await self._measure(*self._unmeasured.pop(0))

    async def wait_loaded(self) -> None:
        """Wait for the end of what `start` began."""
        if self._loading is not None:
            await asyncio.shield(self._loading)

    async def close(self) -> None:
        """Stop loading, end every session's thread; who waits is told that the model is unavailable."""
        self._closed = True
        if self._loading is not None:
            self._loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loading
        # A graph that is being opened cannot be interrupted: its thread is left to end by itself.
        self._pool.shutdown(wait=False, cancel_futures=True)
        ready = [version.model for version in self._all() if version.model is not None]
        await asyncio.gather(*(model.close() for model in ready))
        for version in self._all():
            if version.state != UNAVAILABLE:
                self._settle(version, UNAVAILABLE, "the replica is stopping")

    async def _load(self, name: str) -> None:
        """Load a model's newest version that can be loaded."""
        shown, older = self._versions[name], self._older[name]
        while True:
            version = shown[-1]
            if version.folder is None or version.state != LOADING:
                return
            if await self._load_version(version, version.folder) or not older:
                return
            shown.append(older.pop(0))
            self._tell()

    async def _load_version(self, version: Version, folder: Path) -> bool:
        started_s = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            loaded = await loop.run_in_executor(self._pool, load_model, folder, self.service, self._settings)
        except (ArtifactError, SessionError) as error:
            reason = str(error)
        # Whatever else a damaged file can provoke in a parser must not stop the other models.
        except Exception as error:  # noqa: BLE001
            _log.exception("model failed to load unexpectedly", model=version.name, version=version.version)
            reason = f"loading failed unexpectedly ({type(error).__name__}); the log has the stack"
        else:
            version.model = Model(loaded, self._settings)
            self._unmeasured.append((version.model, loaded.golden_inputs))
            self._settle(version, READY, "")
            _log.info(
                "model ready",
                model=version.name,
                version=version.version,
                provider=loaded.provider,
                duration_s=round(time.monotonic() - started_s, 3),
            )
            return True
        _log.error("model unavailable", model=version.name, version=version.version, reason=reason)
        self._settle(version, UNAVAILABLE, reason)
        return False

    async def _measure(self, model: Model, inputs: Mapping[str, Mapping[str, Array]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._pool, model.measure_batches, inputs)
        except RunError as error:
            _log.warning("batches of a model could not be measured", model=model.name, reason=str(error))

    def _settle(self, version: Version, state: State, reason: str) -> None:
        version.state, version.reason = state, reason
        if state != READY:
            version.model = None
        self._tell()

    def _tell(self) -> None:
        if self.on_change is not None:
            self.on_change()

    # Looking up.

    @property
    def loading(self) -> bool:
        """Whether a model is still being loaded."""
        return any(version.state == LOADING for version in self._all())

    @property
    def versions(self) -> list[Version]:
        """Every model's versions that serve, are being loaded or could not be, newest first."""
        return list(self._all())

    def model(self, name: str, rpc: str) -> Model:
        """The model that answers a typed call: `<model>`, `<service>/<model>`, or "" for the rpc's default.

        `rpc` is the method's name, e.g. `ClassifyImage`; "" takes any named model.

        Raises:
            NotFound: no such model, or none for this rpc.
            InvalidArgument: the model is made for another rpc.
            Unavailable: it is known and does not answer; the reason says why.
        """
        key = self._find(name) if name else self._find_default(rpc)
        model = self._get_ready(key)
        if rpc and rpc not in self._rpcs(key, model):
            fitting = [
                version.name
                for version in self._all()
                if version.model is not None and rpc in self._rpcs(version.name, version.model)
            ]
            raise InvalidArgument(
                "model", expected=f"a model for {rpc}: {', '.join(sorted(fitting)) or 'none'}", got=name
            )
        return model

    def graph(self, name: str, version: str = "", *, field: str = "model_name") -> ServedGraph:
        """The graph that answers a tensor call: `<model>`, or `<model>.<graph>` where it has several.

        `version` "" is the one that serves; `field` is the request's field, for messages.

        Raises:
            NotFound: no such model, graph or version.
            InvalidArgument: the model has several graphs and none is named.
            Unavailable: the model is known and does not answer.
        """
        key, _, graph = self.split(name)
        model = self._get_ready(key)
        if version and version != model.artifact.version:
            raise NotFound(f"version of model {key}", version, known=[model.artifact.version])
        names = {served.name: served for served in model.graphs.values()}
        if not graph and len(names) > 1:
            raise InvalidArgument(
                field, expected=f"one of the model's graphs: {', '.join(sorted(names))}", got=name
            )
        try:
            return names[f"{key}.{graph}" if graph else key]
        except KeyError:
            raise NotFound("model", name, known=sorted(names)) from None

    def split(self, name: str) -> tuple[str, str, str]:
        """Take a name apart: model, the prefix as it was written (`<service>/` or ""), graph ("" if none is
        named).

        Raises:
            NotFound: no such model.
        """
        prefix = f"{self.service}/"
        bare = name.removeprefix(prefix)
        prefix = prefix if bare != name else ""
        # A model's own name may hold a dot, so the whole name goes first.
        if bare in self._versions:
            return bare, prefix, ""
        model, _, graph = bare.rpartition(".")
        if model in self._versions and graph:
            return model, prefix, graph
        raise NotFound("model", name, known=sorted(self._versions))

    def graphs(self) -> Iterator[ServedGraph]:
        """All graphs that answer."""
        for version in self._all():
            if version.model is not None:
                yield from version.model.graphs.values()

    def statuses(self) -> list[pb.ModelStatus]:
        """Every model as the replica reports it: one entry per version that serves, loads or could not be loaded."""
        return [self._describe(version) for version in self._all()]

    def _all(self) -> Iterator[Version]:
        for versions in self._versions.values():
            yield from versions

    def _find(self, name: str) -> str:
        key = name.removeprefix(f"{self.service}/")
        if key not in self._versions:
            raise NotFound("model", name, known=sorted(self._versions))
        return key

    def _find_default(self, rpc: str) -> str:
        for name, entry in self._catalog.items():
            if rpc in entry.get("default_for", ()):
                return name
        # Without a catalogued default, a model of the user's own that was made for this rpc.
        for version in self._all():
            if version.model is not None and version.model.artifact.task == rpc:
                return version.name
        raise NotFound(f"default model of {rpc}", "", known=sorted(self._versions))

    def _get_ready(self, name: str) -> Model:
        versions = self._versions[name]
        for version in versions:
            if version.model is not None:
                return version.model
        loading = versions[-1].state == LOADING
        raise Unavailable(
            f"model {self.service}/{name}",
            reason="it is being loaded" if loading else versions[0].reason,
            retry_after_s=_RETRY_LOADING_S if loading else _RETRY_BROKEN_S,
        )

    def _rpcs(self, name: str, model: Model) -> set[str]:
        """The rpcs that a model answers: the one it was made for, and those it is the default of."""
        return {model.artifact.task, *self._default_for(name)}

    def _default_for(self, name: str) -> list[str]:
        return [str(rpc) for rpc in self._catalog.get(name, {}).get("default_for", ())]

    def _describe(self, version: Version) -> pb.ModelStatus:
        entry = self._catalog.get(version.name, {})
        status = pb.ModelStatus(
            name=version.name,
            version=version.version,
            state=version.state,
            reason=version.reason,
            description=str(entry.get("description", "")),
            license=str(entry.get("license", "")),
            default_for=self._default_for(version.name),
        )
        if version.model is not None:
            artifact = version.model.artifact
            status.digest = artifact.digest
            status.description = artifact.description
            status.license = artifact.license
            status.graphs.extend(graph_name(artifact, key) for key in artifact.graphs)
            status.execution_provider = version.model.provider
        return status
