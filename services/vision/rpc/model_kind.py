"""What an rpc reads out of the artifacts of its models, once for each. Which models it may use, the repository says."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pydantic import ValidationError

from shared.errors import Unavailable
from shared.inference.artifact import Artifact, ArtifactError
from shared.inference.model import Model

T = TypeVar("T")

# Nobody mends an artifact within seconds.
BROKEN_RETRY_S = 30.0


class ModelKind(Generic[T]):
    """The models of one rpc: the preprocessing they expect, the outputs they need, and how `T` is read from an artifact."""

    def __init__(
        self,
        rpc: str,
        *,
        preprocessing: str,
        outputs: Sequence[str],
        read: Callable[[Artifact], T],
    ) -> None:
        self.rpc = rpc
        self._preprocessing = preprocessing
        self._outputs = frozenset(outputs)
        self._read = read
        self._known: dict[str, T] = {}

    def get(self, model: Model) -> T:
        """What the rpc needs to know of `model`.

        Raises Unavailable if its artifact lacks what it should say, or was made for a preprocessing that is not this one.
        """
        artifact = model.artifact
        if (known := self._known.get(artifact.digest)) is not None:
            return known
        outputs = {output.name for graph in artifact.graphs.values() for output in graph.outputs}
        if artifact.preprocessing != self._preprocessing or not self._outputs <= outputs:
            raise Unavailable(
                f"model {model.name}",
                reason=f"{self.rpc} feeds models with {self._preprocessing} and needs their outputs "
                f"{', '.join(sorted(self._outputs))}; this one was made for {artifact.preprocessing}",
                retry_after_s=BROKEN_RETRY_S,
            )
        try:
            read = self._read(artifact)
        except (ArtifactError, OSError, ValidationError, ValueError) as error:
            raise Unavailable(
                f"model {model.name}",
                reason=f"its artifact does not say what {self.rpc} needs: {error}",
                retry_after_s=BROKEN_RETRY_S,
            ) from error
        self._known[artifact.digest] = read
        return read
