"""Held-out items as callers would send them, so that versions can be compared as they are served.

    <state>/heldout/<service>/<model>/
        heldout.json    {"name", "rpc", "service", "model", "items", "sha256"}
        items.jsonl     one item a line: {"text": …, "label": …} or {"file": "0007.png", "sha256": …, "label": …}
        files of items

Lives here: the format, writing and reading. Not here: asking replicas (`sensorium models compare`). The digest is of
items.jsonl, which holds those of the files.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shared.inference.manifest import HeldOut
from shared.settings import state_dir

ITEMS, ABOUT = "items.jsonl", "heldout.json"


def heldout_dir(service: str, model: str, state: Path | None = None) -> Path:
    """Where the held-out items of a model lie."""
    return (state or state_dir()) / "heldout" / service / model


def write_heldout(
    name: str,
    *,
    service: str,
    model: str,
    rpc: str,
    items: Iterable[Mapping[str, Any]],
    files: Mapping[str, bytes] | None = None,
    folder: Path | None = None,
) -> HeldOut:
    """Write held-out items, whole or not at all; an older set is replaced. Gives what the manifest's `quality` says of it.

    items: each with `label` and `text` or `file`, a key of `files` (file name -> content); further keys, for slices, are
    kept. folder: else that of `heldout_dir`.
    """
    files = files or {}
    lines = []
    for item in items:
        said = dict(item)
        if ("text" in said) == ("file" in said) or "label" not in said:
            raise ValueError(
                f"item {len(lines)}: expected 'label' and one of 'text' and 'file', got {sorted(said)}"
            )
        if "file" in said:
            said["sha256"] = hashlib.sha256(files[said["file"]]).hexdigest()
        lines.append(json.dumps(said, sort_keys=True, ensure_ascii=False))
    content = "".join(f"{line}\n" for line in lines).encode()
    held = HeldOut(name=name, sha256=hashlib.sha256(content).hexdigest(), items=len(lines))
    target = folder or heldout_dir(service, model)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".partial-{target.name}-"))
    try:
        for file, value in files.items():
            (partial / file).write_bytes(value)
        (partial / ITEMS).write_bytes(content)
        about = {**held.model_dump(), "rpc": rpc, "service": service, "model": model}
        (partial / ABOUT).write_text(json.dumps(about, indent=2) + "\n")
        partial.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return held


def read_heldout(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is said of a set, and its items.

    Raises:
        ValueError: the items are not those that were written.
    """
    about = json.loads((folder / ABOUT).read_text())
    content = (folder / ITEMS).read_bytes()
    if (got := hashlib.sha256(content).hexdigest()) != about["sha256"]:
        raise ValueError(f"{folder / ITEMS}: expected sha256 {about['sha256']}, got {got}")
    return about, [json.loads(line) for line in content.decode().splitlines()]
