"""A state folder with a small trained model that is signed and serves, held-out items for it, and candidates beside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.__main__ import main
from shared.inference.artifact import Artifact, read_artifact
from shared.inference.heldout import write_heldout
from tests.services.nlp.trained import MOODS, WORDS, train
from tests.support.signing import sign_models

MODEL = "nlp/moods"
# Right on every item as what serves, by other weights; on about seven of eight; on none.
ALIKE = {label: (*texts, texts[0]) for label, texts in MOODS.items()}
BLIND = {label: texts[:2] for label, texts in MOODS.items()}
TURNED = dict(zip(MOODS, reversed(list(MOODS.values())), strict=True))


@dataclass
class Shop:
    """The state folder, and what commands print."""

    state: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def folder(self) -> Path:
        """Where the model's versions are."""
        return self.state / "models" / "nlp" / "moods"

    @property
    def versions(self) -> list[str]:
        """Those on disk; what is being written begins with a dot."""
        return sorted(path.name for path in self.folder.iterdir())

    def hold_out(self, items: int = 800) -> str:
        """Write so many held-out items; gives their digest."""
        texts = [(text, label) for label, some in MOODS.items() for text in some]
        made = [
            {"text": f"{text}, {number}", "label": label, "slice": "even" if number % 2 == 0 else "odd"}
            for number, (text, label) in enumerate(texts * (items // len(texts) + 1))
        ]
        return write_heldout(self.state, "nlp", "moods", made[:items], name="moods-test", rpc="ClassifyText")

    def run(self, *words: str) -> tuple[int, str, str]:
        """`sensorium models …`: exit code, answers, remarks."""
        self.capsys.readouterr()
        code = main(["models", *words, "--state-dir", str(self.state)])
        said = self.capsys.readouterr()
        return code, said.out, said.err

    def run_json(self, *words: str) -> tuple[int, dict[str, Any]]:
        """The same with `--json`; the last line."""
        code, out, err = self.run(*words, "--json")
        assert out, err
        return code, json.loads(out.splitlines()[-1])

    def history(self) -> list[dict[str, Any]]:
        """What is recorded of the model."""
        _, out, _ = self.run("history", MODEL, "--json")
        return [json.loads(line) for line in out.splitlines()]


def make_candidate(folder: Path, texts: Mapping[str, Sequence[str]] = ALIKE, **quality: Any) -> Artifact:
    """An artifact as training leaves it: anywhere, not signed."""
    made = train(folder, "moods", "ClassifyText", texts, WORDS)
    if quality:
        _state_quality(made.folder, quality)
    return read_artifact(made.folder)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    """One version serves."""
    state = tmp_path / "state"
    monkeypatch.setenv("SENSORIUM_STATE_DIR", str(state))
    monkeypatch.setenv("COLUMNS", "200")
    train(state / "models" / "nlp", "moods", "ClassifyText", MOODS, WORDS)
    sign_models(state)
    return Shop(state, capsys)


def _state_quality(folder: Path, quality: Mapping[str, Any]) -> None:
    path = folder / "artifact.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "quality": quality}))
