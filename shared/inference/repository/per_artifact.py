"""What a service makes of an artifact besides its sessions: constants read, a tokenizer or vocabulary opened. Once for each
version that serves, and gone with it.

Not here: which model answers (`repository.py`), what is made (the services').
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from pydantic import ValidationError

from shared.errors import Unavailable
from shared.inference.artifact import Artifact, ArtifactError
from shared.inference.executor import run_in_executor
from shared.inference.model import Model
from shared.inference.repository.repository import Repository

T = TypeVar("T")

# When to ask again for a model whose artifact somebody must mend (seconds).
_RETRY_S = 30.0


class PerArtifact(Generic[T]):
    """Makes a `T` of a model's artifact at its first use, and keeps it as long as anybody holds the model.

    Of a version that is to take over from one that serves it is made before, so that one of which none can be made
    does not take over, and no caller waits for it.
    """

    def __init__(
        self,
        makers: Mapping[str, Callable[[Artifact], T]],
        *,
        rpc: str,
        repository: Repository | None = None,
    ) -> None:
        """`makers` has, by the preprocessings that the rpc can feed its models with, what makes a `T` of an artifact. One
        may block: it runs on a thread; what it makes must not hold the model. `repository` is that of the models that
        take over.
        """
        self.rpc = rpc
        self._makers = dict(makers)
        self._made: WeakKeyDictionary[Model, T] = WeakKeyDictionary()
        if repository is not None:
            repository.prepare_with(self)

    async def get(self, model: Model) -> T:
        """Give what belongs to the model.

        Raises:
            Unavailable: the artifact was made for another preprocessing, or lacks what the rpc needs to know.
        """
        made = self._made.get(model)
        if made is not None:
            return made
        try:
            return await self.prepare(model)
        except ArtifactError as error:
            raise Unavailable(f"model {model.name}", reason=str(error), retry_after_s=_RETRY_S) from error

    async def prepare(self, model: Model) -> T:
        """Make what belongs to the model, and keep it.

        Raises:
            ArtifactError: it cannot be made; the text is the reason.
        """
        artifact = model.artifact
        make = self._makers.get(artifact.preprocessing)
        if make is None:
            raise ArtifactError(
                f"{self.rpc} needs one made for {' or '.join(self._makers)}, this is for {artifact.preprocessing}"
            )
        try:
            made = await run_in_executor(make, artifact)
        except (ArtifactError, OSError, ValidationError, ValueError) as error:
            raise ArtifactError(f"its artifact does not say what {self.rpc} needs: {error}") from error
        # Two first calls at once both make one; the later replaces an equal.
        self._made[model] = made
        return made
