"""Which model or graph a name means, and why nothing does: one immutable snapshot, made anew at every change.

What is ready is found by one look into a dict, on the path of every call; only a name that leads nowhere is taken
apart. Not here: what is ready (`upkeep.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.errors import InvalidArgument, NotFound, Unavailable
from shared.inference.model import Model, ServedGraph, graph_name
from shared.inference.repository.catalog import Catalog, list_defaults
from shared.inference.repository.shelf import Shelf
from shared.inference.repository.versions import READY

# When to ask again for a model that is being loaded (seconds, each), and for one that somebody must mend first.
_RETRY_LOADING_S, _RETRY_BROKEN_S = 1.0, 30.0


class Directory:
    """The names of one moment. Used on the event loop, which alone changes the shelves."""

    def __init__(self, service: str, shelves: Mapping[str, Shelf], catalog: Catalog) -> None:
        self._prefix = f"{service}/"
        self._shelves = {name: shelf for name, shelf in shelves.items() if shelf.known}
        self._catalog = catalog
        # (name as it may be written, version or "") and (name or "", rpc).
        self._graphs: dict[tuple[str, str], ServedGraph] = {}
        self._models: dict[tuple[str, str], Model] = {}
        for shelf in self._shelves.values():
            self._enter(shelf)
        for rpc in {rpc for rpcs in map(self.list_rpcs, self._shelves) for rpc in rpcs}:
            if (name := self._find_default(rpc)) and (model := self._get_model(name, "")) is not None:
                self._models["", rpc] = model

    @property
    def names(self) -> list[str]:
        """Every model that is known."""
        return sorted(self._shelves)

    def list_rpcs(self, name: str) -> list[str]:
        """The rpcs that a model answers: those it is the default of, and the one that it was made for."""
        model = self._get_model(name, "")
        made_for = [] if model is None else [model.artifact.task]
        return list(dict.fromkeys([*list_defaults(self._catalog, name), *made_for]))

    def list_fitting(self, rpc: str) -> list[str]:
        """The models that are ready and answer an rpc."""
        return [one for one in self.names if self._get_model(one, "") and rpc in self.list_rpcs(one)]

    def model(self, name: str, rpc: str, version: str = "") -> Model:
        """See `Repository.model`."""
        found = self._models.get((name, rpc)) if not version else None
        if found is not None:
            return found
        if not name:
            if not (key := self._find_default(rpc)):
                raise NotFound(f"default model of {rpc}", "", known=self.names)
            raise self._explain(key)
        key = name.removeprefix(self._prefix)
        if key not in self._shelves:
            raise NotFound("model", name, known=self.names)
        model = self._get_model(key, version)
        if model is None:
            raise self._explain(key, version)
        if rpc and rpc not in self.list_rpcs(key):
            fitting = ", ".join(self.list_fitting(rpc)) or "none"
            raise InvalidArgument("model", expected=f"a model for {rpc}: {fitting}", got=name)
        return model

    def graph(self, name: str, version: str, field: str) -> ServedGraph:
        """See `Repository.graph`."""
        found = self._graphs.get((name, version))
        if found is not None:
            return found
        key, _, graph = self.split(name)
        model = self._get_model(key, version)
        if model is None:
            raise self._explain(key, version)
        names = [graph_name(model.artifact, one) for one in model.graphs]
        if not graph and len(names) > 1:
            raise InvalidArgument(
                field, expected=f"one of the model's graphs: {', '.join(sorted(names))}", got=name
            )
        raise NotFound("model", name, known=sorted(names))

    def split(self, name: str) -> tuple[str, str, str]:
        """See `Repository.split`."""
        bare = name.removeprefix(self._prefix)
        prefix = self._prefix if bare != name else ""
        # A model's own name may hold a dot, so the whole name goes first.
        if bare in self._shelves:
            return bare, prefix, ""
        model, _, graph = bare.rpartition(".")
        if model in self._shelves and graph:
            return model, prefix, graph
        raise NotFound("model", name, known=self.names)

    def list_ready(self, name: str) -> list[str]:
        """Versions of a model that answer, newest first."""
        return [version.version for version in self._shelves[name].ready]

    def _enter(self, shelf: Shelf) -> None:
        # The default last: it answers where none is named.
        for version in [*shelf.ready, shelf.default]:
            if version is None or version.model is None:
                continue
            numbers = [version.version, ""] if version is shelf.default else [version.version]
            for graph in version.model.graphs.values():
                for number in numbers:
                    self._graphs[graph.name, number] = graph
                    self._graphs[f"{self._prefix}{graph.name}", number] = graph
        if shelf.default is not None and (model := shelf.default.model) is not None:
            for rpc in ["", *self.list_rpcs(shelf.name)]:
                self._models[shelf.name, rpc] = model
                self._models[f"{self._prefix}{shelf.name}", rpc] = model

    def _get_model(self, name: str, number: str) -> Model | None:
        shelf = self._shelves[name]
        version = shelf.get(number, READY) if number else shelf.default
        return None if version is None else version.model

    def _find_default(self, rpc: str) -> str:
        """The model that answers an rpc where none is named; "" if there is none."""
        for name in self._catalog:
            if rpc in list_defaults(self._catalog, name):
                return name
        # Without a catalogued default, a model of the user's own that was made for this rpc.
        for name in self._shelves:
            if (model := self._get_model(name, "")) is not None and model.artifact.task == rpc:
                return name
        return ""

    def _explain(self, name: str, number: str = "") -> NotFound | Unavailable:
        """Why a model, or a version of it, does not answer."""
        shelf = self._shelves[name]
        what = f"model {self._prefix}{name}"
        loading, reason = shelf.loading, shelf.explain()
        if number:
            if number not in shelf.folders:
                return NotFound(f"version of model {name}", number, known=self.list_ready(name))
            told = [version for version in shelf.versions if version.version == number]
            what = f"version {number} of {what}"
            loading = any(version.reason == "" for version in told)
            reason = "it is being loaded" if loading else told[0].reason if told else "it is not loaded"
        return Unavailable(
            what, reason=reason, retry_after_s=_RETRY_LOADING_S if loading else _RETRY_BROKEN_S
        )
