"""Held-out sets: what is written is read, and what is not as it should be is named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from shared.inference.heldout import HeldOutError, heldout_folder, read_heldout, write_heldout

TEXTS = [
    {"text": "good\u2028film", "label": "positive", "slice": "long"},
    {"text": "bad film", "label": "negative"},
]


def write(state: Path, items: list[dict[str, Any]], **more: Any) -> Path:
    write_heldout(state, "nlp", "sentiment", items, name="snippets", rpc="ClassifyText", **more)
    return heldout_folder(state, "nlp", "sentiment")


def test_texts_come_back(tmp_path: Path) -> None:
    found = read_heldout(write(tmp_path, TEXTS, candidate_labels=["a", "b"]))
    assert [(item.text, item.label, item.slice) for item in found.items] == [
        ("good\u2028film", "positive", "long"),
        ("bad film", "negative", ""),
    ]
    assert (found.name, found.service, found.rpc) == ("snippets", "nlp", "ClassifyText")
    assert found.candidate_labels == ("a", "b")


def test_files_come_back_and_count_in_the_digest(tmp_path: Path) -> None:
    items = [{"file": f"{n}.png", "content": bytes([n]), "label": str(n)} for n in range(3)]
    folder = write(tmp_path, items)
    found = read_heldout(folder)
    assert [(item.content, item.label) for item in found.items] == [(bytes([n]), str(n)) for n in range(3)]
    (folder / "1.png").write_bytes(b"x")
    with pytest.raises(HeldOutError, match="they were changed"):
        read_heldout(folder)
    (folder / "1.png").unlink()
    with pytest.raises(HeldOutError, match=r"1\.png: cannot be read"):
        read_heldout(folder)


def test_writing_again_replaces_the_set(tmp_path: Path) -> None:
    write(tmp_path, TEXTS)
    folder = write(tmp_path, TEXTS[:1])
    assert len(read_heldout(folder).items) == 1
    assert [path.name for path in folder.parent.iterdir()] == ["sentiment"]


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"text": "x"}, "item 1: label: expected a text"),
        ({"label": "x"}, "expected either a text or a file, got neither"),
        ({"label": "x", "text": "y", "file": "z"}, "got both"),
        ({"label": "x", "text": 7}, "text: expected a text, got 7"),
        ({"label": "x", "text": "a\0b"}, "text: expected characters"),
        ({"label": "x", "file": "../z", "content": b""}, "expected a path in the folder"),
        ({"label": "x", "file": "z"}, "content: expected the bytes of z"),
        ({"label": "x", "file": "items.jsonl", "content": b""}, "expected a name of its own"),
    ],
)
def test_items_that_are_none(tmp_path: Path, item: dict[str, Any], says: str) -> None:
    with pytest.raises(HeldOutError, match=says):
        write(tmp_path, [item])
    assert not (tmp_path / "heldout").exists()


@pytest.mark.parametrize(
    "line",
    [
        b'{"label":"ham","text":"\\ud800"}',
        b'{"label":"\\udfff","text":"x"}',
        b'{"label":"x","file":"a\\u0000b"}',
    ],
)
def test_what_no_call_can_carry_is_refused(tmp_path: Path, line: bytes) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "items.jsonl").write_bytes(line + b"\n")
    about = {
        "name": "n",
        "service": "nlp",
        "rpc": "ClassifyText",
        "sha256": hashlib.sha256(line + b"\n").hexdigest(),
    }
    (folder / "heldout.json").write_text(json.dumps(about))
    with pytest.raises(HeldOutError, match="expected characters"):
        read_heldout(folder)


def test_sets_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(HeldOutError, match="expected at least one, got none"):
        write(tmp_path, [])
    with pytest.raises(HeldOutError, match=r"heldout\.json: cannot be read"):
        read_heldout(tmp_path)
    folder = write(tmp_path, TEXTS)
    about = json.loads((folder / "heldout.json").read_text())
    for change, says in (
        ({"rpc": 7}, "rpc: expected a text, got 7"),
        ({"sha256": "x"}, "sha256: expected 64 hex digits"),
        ({"candidate_labels": "x"}, "candidate_labels: expected a list"),
    ):
        (folder / "heldout.json").write_text(json.dumps({**about, **change}))
        with pytest.raises(HeldOutError, match=says):
            read_heldout(folder)
    (folder / "heldout.json").write_text("[]")
    with pytest.raises(HeldOutError, match="expected a JSON object, got list"):
        read_heldout(folder)
    (folder / "heldout.json").write_text(json.dumps(about))
    with (folder / "items.jsonl").open("a") as file:
        file.write("{\n")
    with pytest.raises(HeldOutError, match=r"items\.jsonl:3: is not JSON"):
        read_heldout(folder)
