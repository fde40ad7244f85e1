"""What a service makes of an artifact besides its sessions: constants read, a tokenizer or vocabulary opened. Once each.

Not here: which model answers (`repository.py`), what is made (the services').
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from pydantic import ValidationError

from shared.errors import Unavailable
from shared.inference.artifact import Artifact, ArtifactError
from shared.inference.executor import run_in_executor
from shared.inference.model import Model

T = TypeVar("T")

# Versions in use at a time: a few models, each with the version before it while the next one takes over.
_MAX_SIZE = 16
# When to ask again for a model whose artifact somebody must mend (seconds).
_RETRY_S = 30.0


class PerArtifact(Generic[T]):
    """Makes a `T` of an artifact at its first use and keeps it; the least recently used goes first."""

    def __init__(self, make: Callable[[Artifact], T], *, rpc: str, preprocessing: str) -> None:
        """`make` may block: it runs on a thread. `preprocessing` is what the rpc feeds its models with."""
        self._make = make
        self._rpc = rpc
        self._preprocessing = preprocessing
        self._made: OrderedDict[str, T] = OrderedDict()

    async def get(self, model: Model) -> T:
        """Give what belongs to the model.

        Raises:
            Unavailable: the artifact was made for another preprocessing, or lacks what the rpc needs to know.
        """
        artifact = model.artifact
        made = self._made.get(artifact.digest)
        if made is None:
            # Two first calls at once both make one; the later replaces an equal.
            made = self._made[artifact.digest] = await self._open(model)
        self._made.move_to_end(artifact.digest)
        while len(self._made) > _MAX_SIZE:
            self._made.popitem(last=False)
        return made

    async def _open(self, model: Model) -> T:
        artifact = model.artifact
        if artifact.preprocessing != self._preprocessing:
            raise Unavailable(
                f"model {model.name}",
                reason=f"{self._rpc} needs one made for {self._preprocessing}, this is for {artifact.preprocessing}",
                retry_after_s=_RETRY_S,
            )
        try:
            return await run_in_executor(self._make, artifact)
        except (ArtifactError, OSError, ValidationError, ValueError) as error:
            raise Unavailable(
                f"model {model.name}",
                reason=f"its artifact does not say what {self._rpc} needs: {error}",
                retry_after_s=_RETRY_S,
            ) from error
