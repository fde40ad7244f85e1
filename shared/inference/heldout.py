"""Held-out sets: real inputs with the right answers, on which the versions of a model are compared as they are served.

`<state>/heldout/<service>/<model>/` holds `heldout.json`, `items.jsonl` (one item a line: `text`, or `file` as a path in the
folder; `label`, the right answer; `slice` if it belongs to one; `sha256` of the file) and the files. The set's digest is of
`items.jsonl`, and of those files whose digests do not stand in there. Training writes it, promotion reads it. Not here:
asking a replica about the items and judging the answers (`cli.registry`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from shared.files import open_regular
from shared.inference.folder import write_folder

ABOUT, ITEMS = "heldout.json", "items.jsonl"
# What JSON can say and no call or file system can carry.
_UNSENDABLE = re.compile(r"[\0\ud800-\udfff]")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# A set is read into memory whole, and asked about in minutes.
MAX_ITEMS = 100_000


class HeldOutError(Exception):
    """A held-out set cannot be used; the text names file, line, what was expected and what is there."""


@dataclass(frozen=True)
class Item:
    """One input, a text or a file's content, with its right answer."""

    label: str
    text: str | None = None
    content: bytes | None = field(default=None, repr=False)
    slice: str = ""


@dataclass(frozen=True)
class HeldOutSet:
    """A set that was read, its digest checked."""

    name: str
    service: str
    rpc: str
    sha256: str
    items: tuple[Item, ...]
    candidate_labels: tuple[str, ...] = ()  # for models that have no labels of their own


def heldout_folder(state: Path, service: str, model: str) -> Path:
    """Where the held-out set of a model lies."""
    return state / "heldout" / service / model


def read_heldout(folder: Path) -> HeldOutSet:
    """Read a set and check its digest.

    Raises:
        HeldOutError: a file is missing or not as the format says, or the items are not those that the digest is of.
    """
    about = _read_about(folder / ABOUT)
    content = _read(folder / ITEMS)
    digest = hashlib.sha256(content)
    items = []
    for number, line in enumerate(content.splitlines(), 1):
        item, file, pinned = _parse_item(f"{folder / ITEMS}:{number}", line)
        if file:
            found = _read(folder / file)
            own = hashlib.sha256(found)
            if not pinned:
                digest.update(own.digest())
            elif own.hexdigest() != pinned:
                raise HeldOutError(f"{folder / file}: expected sha256 {pinned}, got {own.hexdigest()}")
            item = Item(item.label, content=found, slice=item.slice)
        items.append(item)
    if not items:
        raise HeldOutError(f"{folder / ITEMS}: expected at least one item, got none")
    if len(items) > MAX_ITEMS:
        raise HeldOutError(f"{folder / ITEMS}: expected at most {MAX_ITEMS} items, got {len(items)}")
    if digest.hexdigest() != about["sha256"]:
        raise HeldOutError(
            f"{folder}: expected the items with sha256 {about['sha256']}, got {digest.hexdigest()}; "
            "they were changed: write the set anew"
        )
    labels = tuple(about.get("candidate_labels", ()))
    return HeldOutSet(about["name"], about["service"], about["rpc"], about["sha256"], tuple(items), labels)


def write_heldout(
    state: Path,
    service: str,
    model: str,
    items: Iterable[Mapping[str, Any]],
    *,
    name: str,
    rpc: str,
    candidate_labels: Iterable[str] = (),
) -> str:
    """Write the held-out set of a model, whole or not at all, in the place of the one of before; gives its sha256.

    An item is `{"text": str, "label": str}` or `{"content": bytes, "file": "a-name.png", "label": str}`, each with a `slice`
    if it belongs to one. The digest belongs into `quality.held_out` of the artifacts that were measured on these items.

    Raises:
        HeldOutError: an item is not as it should be.
        OSError: the set cannot be written.
    """
    lines: list[bytes] = []
    files: dict[str, bytes] = {}
    digests = b""
    for number, given in enumerate(items, 1):
        said = {key: value for key, value in given.items() if key != "content" and value not in (None, "")}
        line = json.dumps(said, ensure_ascii=False, sort_keys=True).encode()
        _, file, _ = _parse_item(f"item {number}", line)
        if file:
            if not isinstance(given.get("content"), bytes):
                raise HeldOutError(f"item {number}: content: expected the bytes of {file}")
            if (
                "/" in file
                or file in (ABOUT, ITEMS)
                or files.setdefault(file, given["content"]) != given["content"]
            ):
                raise HeldOutError(f"item {number}: file: expected a name of its own, got {file!r}")
            digests += hashlib.sha256(given["content"]).digest()
        lines.append(line + b"\n")
    content = b"".join(lines)
    sha256 = hashlib.sha256(content + digests).hexdigest()
    about: dict[str, Any] = {
        "name": name,
        "service": service,
        "rpc": rpc,
        "sha256": sha256,
        "items": len(lines),
    }
    if labels := list(candidate_labels):
        about["candidate_labels"] = labels
    if not lines:
        raise HeldOutError("items: expected at least one, got none")
    contents = {
        **files,
        ITEMS: content,
        ABOUT: (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode(),
    }
    write_folder(heldout_folder(state, service, model), contents)
    return sha256


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        raise HeldOutError(f"{path}: cannot be read: {error.strerror}") from error


def _read_about(path: Path) -> dict[str, Any]:
    about = _parse(str(path), _read(path))
    for key in ("name", "service", "rpc"):
        if not isinstance(about.get(key), str) or not about[key]:
            raise HeldOutError(f"{path}: {key}: expected a text, got {about.get(key)!r}")
    if not isinstance(about.get("sha256"), str) or not _SHA256.fullmatch(about["sha256"]):
        raise HeldOutError(f"{path}: sha256: expected 64 hex digits, got {about.get('sha256')!r}")
    labels = about.get("candidate_labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise HeldOutError(f"{path}: candidate_labels: expected a list of texts, got {labels!r:.100}")
    return about


def _parse_item(where: str, line: bytes) -> tuple[Item, str, str]:
    """An item, the path of its file if it has one, and the file's sha256 where the item says it."""
    said = _parse(where, line)
    label, text, file = said.get("label"), said.get("text"), said.get("file")
    for key in ("label", "text", "file"):
        if isinstance(said.get(key), str) and _UNSENDABLE.search(said[key]):
            raise HeldOutError(f"{where}: {key}: expected characters, got half of one, or none (U+0000)")
    if not isinstance(label, str) or not label:
        raise HeldOutError(f"{where}: label: expected a text, got {label!r:.100}")
    if (text is None) == (file is None):
        raise HeldOutError(f"{where}: expected either a text or a file, got {'both' if text else 'neither'}")
    part = said.get("slice", "")
    if not isinstance(part, str):
        raise HeldOutError(f"{where}: slice: expected a text, got {part!r:.100}")
    if file is None:
        if not isinstance(text, str):
            raise HeldOutError(f"{where}: text: expected a text, got {text!r:.100}")
        return Item(label, text=text, slice=part), "", ""
    if not isinstance(file, str) or PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
        raise HeldOutError(f"{where}: file: expected a path in the folder, got {file!r:.100}")
    pinned = said.get("sha256", "")
    if not isinstance(pinned, str) or (pinned and not _SHA256.fullmatch(pinned)):
        raise HeldOutError(f"{where}: sha256: expected 64 hex digits, got {pinned!r:.100}")
    return Item(label, slice=part), file, pinned


def _parse(where: str, content: bytes) -> dict[str, Any]:
    try:
        said = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise HeldOutError(f"{where}: is not JSON: {error}") from error
    if not isinstance(said, dict):
        raise HeldOutError(f"{where}: expected a JSON object, got {type(said).__name__}")
    return said
