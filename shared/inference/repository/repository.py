"""The models of one service: which are known, which of them answer, and why the others do not.

Here: what the rest of the replica sees. Not here: names (`directory.py`), what is wanted of each model (`shelf.py`), making
it so (`upkeep.py`), the checks (`loading.py`), running (`shared.inference.model`). One model that cannot be loaded never
stops another; a version that cannot be loaded leaves the one before it serving.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.registry import Collector
from sensorium.mesh.v1 import replica_service_pb2 as pb

from shared.errors import FailedPrecondition, NotFound, StartupError
from shared.inference.isolation.isolation import Isolation
from shared.inference.model import Model, ServedGraph
from shared.inference.repository.catalog import Catalog, list_defaults
from shared.inference.repository.directory import Directory
from shared.inference.repository.loader import Loader, Part
from shared.inference.repository.shelf import Shelf
from shared.inference.repository.status import RepositoryMetrics, describe
from shared.inference.repository.upkeep import Upkeep
from shared.inference.repository.versions import LOADING, READY, UNAVAILABLE, Found, Version, scan
from shared.inference.repository.watching import watch
from shared.inference.settings import InferenceSettings
from shared.telemetry.logging import get_logger

__all__ = ["Model", "Repository", "Version"]

_log = get_logger("inference")


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
        isolation: Isolation | None = None,
    ) -> None:
        """List what is there; nothing is loaded yet. `on_change` is called after every change of a state.

        Raises:
            StartupError: the models' folder cannot be read.
        """
        self.service = service
        self.on_change = on_change
        self._models_dir = models_dir
        self._settings = settings
        self._catalog = catalog
        self._shelves: dict[str, Shelf] = {}
        self._loader = Loader(service, settings, catalog, isolation or Isolation.off())
        self._upkeep = Upkeep(
            self._loader, on_change=self._change, retire_timeout_s=settings.retire_timeout_s
        )
        self._starting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        try:
            found = scan(models_dir)
        except OSError as error:
            raise StartupError(f"models' folder {error.filename}: {error.strerror}") from error
        self._note({**{name: {} for name in catalog}, **found})
        if strangers := sorted(settings.models.keys() - self._shelves.keys()):
            # No error: the model's folder may come later.
            _log.warning(
                "settings of models that are not there", models=strangers, known=sorted(self._shelves)
            )
        self._directory = Directory(service, self._shelves, catalog)

    def prepare_with(self, part: Part) -> None:
        """Have what a service makes of a model made before the model takes over from one that serves."""
        self._loader.parts.append(part)

    # Loading.

    def start(self) -> None:
        """Load all models in the background, and watch their folder from then on.

        Calls for a model that is not loaded yet are answered UNAVAILABLE.
        """
        loop = asyncio.get_running_loop()
        self._starting = loop.create_task(self.load_all())
        if self._settings.watch_s:
            self._watching = loop.create_task(watch(self._models_dir, self._settings.watch_s, self._look))

    async def load_all(self) -> None:
        """Load every model that is on disk, some at a time, those first that are the default of a call.

        Returns when each is measured or has a reason why it does not serve; each is ready long before that.
        """
        shelves = sorted(
            self._shelves.values(), key=lambda shelf: not list_defaults(self._catalog, shelf.name)
        )
        await asyncio.gather(*map(self._upkeep.settle, shelves))
        # Half of the work of loading, and not needed for an answer: only when every model answers.
        await self._upkeep.measure()

    async def wait_loaded(self) -> None:
        """Wait for the end of what `start` began."""
        if self._starting is not None:
            await asyncio.shield(self._starting)

    async def wait_settled(self) -> None:
        """Wait until nothing is being loaded, and no version that was replaced is still held by a call."""
        await self._upkeep.wait_settled()

    async def load_model(self, name: str, version: str = "") -> Version:
        """Load what the model's rule says as it lies on disk now, or one version; gives what is ready then.

        A version that the rule would not choose is kept ready beside the one that answers by default. What is
        ready already stays. While one load of the model is at work, all others that are asked for wait for the next.

        Raises:
            NotFound: no such model or version on disk.
            FailedPrecondition: it was refused; the text has the reason, and what serves on.
        """
        shelf = await self._find_on_disk(name, version)
        shelf.ask(version)
        await asyncio.shield(self._upkeep.settle(shelf))
        wanted = version or next(iter(shelf.candidates()), "")
        ready, refused = shelf.get(wanted, READY), shelf.get(wanted, UNAVAILABLE)
        if ready is not None and refused is None:
            return ready
        what = f"version {wanted} of model {self.service}/{shelf.name}"
        serving = "none serves" if shelf.default is None else f"version {shelf.default.version} serves on"
        reason = shelf.explain() if refused is None else refused.reason
        raise FailedPrecondition(f"{what} was refused, {serving}: {reason}", fix="mend it and load it again")

    async def unload_model(self, name: str, version: str = "") -> None:
        """Unload a model, or one version of it, until it is asked for again, its folder changes or the process starts anew.

        Where the rule allows another version, that one is loaded first and takes over. Calls that began on an
        unloaded version end on it; its memory goes back when the last one has.

        Raises:
            NotFound: no such model, or no such version of it.
        """
        shelf = self._get_shelf(name)
        if version and version not in shelf.folders and shelf.get(version, READY) is None:
            raise NotFound(f"version of model {shelf.name}", version, known=list(shelf.folders))
        shelf.put_away(version)
        await asyncio.shield(self._upkeep.settle(shelf))

    def take_out(self, name: str, version: str, reason: str) -> None:
        """Make a version unavailable in this very step, for a reason; callers that wait for it are answered UNAVAILABLE.

        Another version takes over if there is one. Loading it by name brings it back. A version that is not ready
        stays as it is.
        """
        shelf = self._shelves.get(name.removeprefix(f"{self.service}/"))
        found = None if shelf is None else shelf.get(version, READY)
        if shelf is not None and found is not None:
            self._upkeep.take_out(shelf, found, reason)

    async def close(self) -> None:
        """Stop loading and watching, end every session's thread; who waits is told that the model is unavailable."""
        for task in (self._watching, self._starting):
            if task is not None:
                task.cancel()
                # What became of it must not keep the rest from ending.
                (error,) = await asyncio.gather(task, return_exceptions=True)
                if isinstance(error, Exception):
                    _log.error("loading or watching failed unexpectedly", exc_info=error)
        for shelf in self._shelves.values():
            shelf.put_away("", "the replica is stopping")
        self._loader.close()
        await self._upkeep.close(list(self._shelves.values()))

    # Looking up.

    @property
    def loading(self) -> bool:
        """Whether a model is still being loaded."""
        return any(version.state == LOADING for version in self._all())

    @property
    def complete(self) -> bool:
        """Whether there is a model on disk, and each answers or is unloaded on purpose."""
        pulled = [shelf for shelf in self._shelves.values() if shelf.folders]
        return bool(pulled) and all(shelf.unloaded or shelf.default is not None for shelf in pulled)

    @property
    def versions(self) -> list[Version]:
        """Every model's versions that serve, are being loaded or could not be, newest first."""
        return list(self._all())

    def model(self, name: str, rpc: str, version: str = "") -> Model:
        """The model that answers a typed call: `<model>`, `<service>/<model>`, or "" for the rpc's default.

        `rpc` is the method's name, e.g. `ClassifyImage`; "" takes any named model. A catalogue may state another default for
        requests that set a field, e.g. `ClassifyText/candidate_labels`: that is an `rpc` of its own here. Whoever holds
        a model may run it to the end of his call, whatever becomes of the version.

        Raises:
            NotFound: no such model, or none for this rpc.
            InvalidArgument: the model is made for another rpc.
            Unavailable: it is known and does not answer; the reason says why.
        """
        return self._directory.model(name, rpc, version)

    def graph(self, name: str, version: str = "", *, field: str = "model_name") -> ServedGraph:
        """The graph that answers a tensor call: `<model>`, or `<model>.<graph>` where it has several.

        `version` "" is the one that serves by default, any other one that is ready; `field` is the request's field,
        for messages.

        Raises:
            NotFound: no such model, graph or version.
            InvalidArgument: the model has several graphs and none is named.
            Unavailable: the model or version is known and does not answer.
        """
        return self._directory.graph(name, version, field)

    def split(self, name: str) -> tuple[str, str, str]:
        """Take a name apart: model, the prefix as it was written (`<service>/` or ""), graph ("" if none is
        named).

        Raises:
            NotFound: no such model.
        """
        return self._directory.split(name)

    def list_fitting(self, rpc: str) -> list[str]:
        """Models (their bare names) that answer an rpc when they are named."""
        return self._directory.list_fitting(rpc)

    def list_ready(self, name: str) -> list[str]:
        """Versions of a model (its bare name) that answer, newest first."""
        return self._directory.list_ready(name)

    def graphs(self) -> Iterator[ServedGraph]:
        """All graphs that answer, of every version."""
        for version in self._all():
            if version.model is not None:
                yield from version.model.graphs.values()

    def statuses(self) -> list[pb.ModelStatus]:
        """Every model as the replica reports it: one entry per version that serves, loads or could not be loaded."""
        return [describe(version, self._catalog) for version in self._all()]

    def make_collector(self) -> Collector:
        """Metrics of versions and loads, for the server's port."""
        return RepositoryMetrics(self._all, self._loader.outcomes)

    def _all(self) -> Iterator[Version]:
        for name in sorted(self._shelves):
            yield from self._shelves[name].versions

    def _get_shelf(self, name: str) -> Shelf:
        shelf = self._shelves.get(name.removeprefix(f"{self.service}/"))
        if shelf is None or not shelf.known:
            raise NotFound("model", name, known=self._directory.names)
        return shelf

    async def _find_on_disk(self, name: str, version: str) -> Shelf:
        """The shelf of a model after a fresh look at the disk."""
        try:
            found = await asyncio.to_thread(scan, self._models_dir)
        except OSError as error:
            raise FailedPrecondition(
                f"the models' folder cannot be read: {error.strerror}", fix="mend it and load the model again"
            ) from error
        bare = name.removeprefix(f"{self.service}/")
        if self._note({bare: found.get(bare, {})} if bare in {*found, *self._shelves} else {}):
            self._change()
        shelf = self._get_shelf(name)
        if not shelf.folders or (version and version not in shelf.folders):
            raise NotFound(f"version of model {shelf.name} on disk", version, known=sorted(shelf.folders))
        return shelf

    def _look(self, found: Found) -> None:
        """Take note of what lies on disk, and have what changed loaded or unloaded."""
        if changed := self._note({**{name: {} for name in self._shelves}, **found}):
            self._change()
            for shelf in changed:
                self._upkeep.settle(shelf)

    def _note(self, found: Found) -> list[Shelf]:
        """Take note of some models; gives those that differ from before."""
        for name in sorted(found.keys() - self._shelves.keys()):
            own = self._settings.for_model(name)
            catalogued = str(self._catalog[name].get("version", "")) if name in self._catalog else None
            self._shelves[name] = Shelf(
                name, rule=own.version, count=own.ready_versions, catalogued=catalogued
            )
        return [self._shelves[name] for name in found if self._shelves[name].find_on_disk(found[name])]

    def _change(self) -> None:
        self._directory = Directory(self.service, self._shelves, self._catalog)
        if self.on_change is not None:
            self.on_change()
