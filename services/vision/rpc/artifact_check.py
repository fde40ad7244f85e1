"""What is asked of an artifact before its constants are read."""

from shared.inference.artifact import Artifact, ArtifactError


def require_outputs(artifact: Artifact, *names: str) -> None:
    """Raises ArtifactError unless the artifact's graphs have outputs of these names."""
    found = {output.name for graph in artifact.graphs.values() for output in graph.outputs}
    if missing := [name for name in names if name not in found]:
        raise ArtifactError(f"it has no output {', '.join(missing)}; its outputs: {', '.join(sorted(found))}")
