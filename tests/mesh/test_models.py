"""Versions of a model on all replicas of a mesh: loaded and unloaded with the command, found by watching the folder."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sensorium import Client, errors

from tests.mesh.running import RunningMesh, run, running_mesh
from tests.support.artifact_copy import copy_version, flip_bit
from tests.support.signing import UNSIGNED_ENVIRON

LIMIT_S = 30


def models(mesh: RunningMesh, *words: str) -> list[tuple[str, str, int]]:
    """What a command about models prints: version, state, on how many replicas it is ready."""
    done = run([sys.executable, "-m", "cli", "models", *words, "--json"], mesh)
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    return [(line["version"], line["state"], line["ready_replicas"]) for line in said]


def test_versions_are_loaded_and_unloaded_everywhere(models_dir: Path, tmp_path: Path) -> None:
    source, here = models_dir / "nlp" / "minilm" / "1", tmp_path / "state/models/nlp"
    copy_version(source, here, "1")
    with (
        running_mesh(
            tmp_path / "state", "--replicas", "nlp=2,vision=0,speech=0", environ=UNSIGNED_ENVIRON
        ) as mesh,
        Client(mesh.address, token=mesh.token, timeout_s=60) as client,
    ):
        copy_version(source, here, "2")
        assert ("2", "ready", 2) in models(mesh, "load", "minilm")
        assert client.embed_text("hello").model.version == "2"
        # Both replicas have it; the one before is kept for who names it.
        assert ("1", "ready", 2) in models(mesh, "load", "nlp/minilm", "--version", "1")
        assert client.embed_text("hello").model.version == "2"
        assert ("1", "unavailable", 0) in models(mesh, "unload", "minilm", "--version", "1")

        copy_version(source, here, "3", flip_bit)
        with pytest.raises(errors.FailedPrecondition, match="version 3 of model nlp/minilm was refused"):
            client.load_model("nlp/minilm")
        assert client.embed_text("hello").model.version == "2"

        assert all(state != "ready" for _, state, _ in models(mesh, "unload", "minilm"))
        with pytest.raises(errors.Unavailable, match="unloaded by a call"):
            client.embed_text("hello")

        copy_version(source, here, "4")
        assert ("4", "ready", 2) in models(mesh, "load", "minilm")
        # Who may load, but not list.
        create = ["token", "create", "ops", "--scope", "admin", "--state-dir", str(mesh.state)]
        token = run([sys.executable, "-m", "cli", *create], mesh).stdout.strip()
        done = run([sys.executable, "-m", "cli", "models", "load", "minilm"], replace(mesh, token=token))
        assert (done.returncode, done.stdout) == (0, "")
        assert "the scope `mesh`" in done.stderr
        copy_version(source, here, "5")
        deadline = time.monotonic() + LIMIT_S
        while client.embed_text("hello").model.version != "5":
            assert time.monotonic() < deadline, "the replicas look at their folder every two seconds"
