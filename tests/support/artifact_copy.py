"""Copies of an artifact under other versions, whole or damaged, renamed in place as a writer does."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What is done to a copy before it is put in place.
Change = Callable[[Path], object]


def copy_version(source: Path, models_dir: Path, version: str, change: Change | None = None) -> Path:
    """Copy the artifact in `source` to `<models_dir>/<its model>/<version>`, without its signature; gives the folder."""
    target = models_dir / source.parent.name / version
    partial = target.with_name(f".partial-{version}")
    shutil.copytree(source, partial, ignore=shutil.ignore_patterns("signature.jws"))
    manifest = json.loads((partial / "artifact.json").read_bytes())
    manifest["version"] = version
    (partial / "artifact.json").write_text(json.dumps(manifest))
    if change is not None:
        change(partial)
    partial.rename(target)
    return target


def flip_bit(folder: Path) -> None:
    """Turn one bit in the middle of the first graph."""
    graph = _find_graph(folder)
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)


def truncate(folder: Path) -> None:
    """Cut the first graph in half."""
    graph = _find_graph(folder)
    graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])


def remove_graph(folder: Path) -> None:
    """Take the first graph away."""
    _find_graph(folder).unlink()


def make_opset_99(folder: Path) -> None:
    """Say of the first graph that it needs operators of a version that does not exist, and make the digests right again."""
    import onnx

    graph = _find_graph(folder)
    model = onnx.load(graph)
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = 99
    replace_file(folder, graph.name, model.SerializeToString())


def change_manifest(**fields: Any) -> Change:
    """What puts other values into artifact.json; a mapping is merged into the one that is there, None takes a key out."""

    def change(folder: Path) -> None:
        manifest = json.loads((folder / "artifact.json").read_bytes())
        for name, value in fields.items():
            merged = {**manifest[name], **value} if isinstance(value, dict) else value
            if isinstance(merged, dict):
                merged = {key: inner for key, inner in merged.items() if inner is not None}
            manifest[name] = merged
        (folder / "artifact.json").write_text(json.dumps(manifest))

    return change


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Put another content into a file of the artifact, with its digest."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "artifact.json").read_bytes())
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / "artifact.json").write_text(json.dumps(manifest))


def _find_graph(folder: Path) -> Path:
    return min(folder.glob("*.onnx"))
