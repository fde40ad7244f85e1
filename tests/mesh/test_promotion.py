"""A candidate is promoted while the mesh answers calls for its model: none is lost, and what must not serve does not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sensorium import AsyncClient, SensoriumError

from cli.registry.key import own_signer
from shared.inference.heldout import write_heldout
from shared.inference.signature import Signer
from tests.mesh.running import ROOT, RunningMesh, running_mesh
from tests.services.nlp.trained import MOODS, WORDS, train
from tests.support.artifact_copy import copy_version, flip_bit
from tests.support.signing import sign_models
from tests.support.waiting import within

MODEL = "nlp/moods"
CALLERS = 4
LIMIT_S = 120


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    """Two replicas of one service with one small model; as deploy/mesh.yaml says, only what is signed is served."""
    state = tmp_path / "state"
    train(state / "models/nlp", "moods", "ClassifyText", MOODS, WORDS)
    sign_models(state)
    texts = [(text, label) for label, some in MOODS.items() for text in some]
    # Two that answer alike need 765 items to pass as equals.
    numbers = range(1 + 800 // len(texts))
    items = [{"text": f"{text}, {number}", "label": label} for number in numbers for text, label in texts]
    write_heldout(state, "nlp", "moods", items, name="moods-test", rpc="ClassifyText")
    environ = {"SENSORIUM_NLP_INFERENCE__WATCH_S": "0.2"}
    with running_mesh(state, "--replicas", "vision=0,nlp=2,speech=0", environ=environ) as running:
        yield running


@dataclass
class Callers:
    """Calls that never pause: the versions that answered, and what went wrong."""

    client: AsyncClient
    versions: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    async def keep_calling(self) -> None:
        """One caller, until cancelled."""
        while True:
            try:
                result = await self.client.classify_text("i loved every minute of this gem", model=MODEL)
            except SensoriumError as error:
                self.lost.append(str(error))
            else:
                self.versions.append(result.model.version)


@contextlib.asynccontextmanager
async def calling(mesh: RunningMesh) -> AsyncIterator[Callers]:
    """Callers at work."""
    async with AsyncClient(mesh.address, token=mesh.token, timeout_s=20, retries=False) as client:
        callers = Callers(client)
        tasks = [asyncio.create_task(callers.keep_calling()) for _ in range(CALLERS)]
        try:
            yield callers
        finally:
            for task in tasks:
                task.cancel()
            await within(asyncio.gather(*tasks, return_exceptions=True))


async def command(mesh: RunningMesh, *words: str) -> tuple[int, dict[str, object]]:
    """`sensorium models … --json` on the mesh's state folder: its exit code and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "models", *words, "--json", "--state-dir", str(mesh.state)),
        cwd=ROOT,
        env=mesh.environ(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await within(process.communicate(), LIMIT_S)
    assert process.returncode is not None
    assert out, err.decode()
    return process.returncode, json.loads(out)


async def until_refused(callers: Callers, version: str) -> str:
    """Why a version does not serve, once the mesh knows."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            for model in await callers.client.list_models():
                if (model.version, model.state) == (version, "unavailable"):
                    return model.reason
            await asyncio.sleep(0.05)


def sign(folder: Path, signer: Signer) -> None:
    (folder / "signature.jws").write_bytes(signer.sign((folder / "artifact.json").read_bytes()))


async def test_a_candidate_takes_over_without_a_lost_call(mesh: RunningMesh, tmp_path: Path) -> None:
    models = mesh.state / "models/nlp"
    candidate = train(tmp_path / "run", "moods", "ClassifyText", MOODS, WORDS)
    async with calling(mesh) as callers:
        code, said = await command(mesh, "promote", MODEL, str(candidate.folder))
        assert (code, said["version"]) == (0, "2"), said
        assert said["replicas"] == {"nlp-0": "ready", "nlp-1": "ready"}
        asked = len(callers.versions)
        async with asyncio.timeout(LIMIT_S):
            while "2" not in callers.versions[asked:]:
                await asyncio.sleep(0.02)

        # A worse one is refused before any replica hears of it.
        turned = dict(zip(MOODS, reversed(list(MOODS.values())), strict=True))
        worse = train(tmp_path / "worse", "moods", "ClassifyText", turned, WORDS)
        code, said = await command(mesh, "promote", MODEL, str(worse.folder))
        assert (code, said["version"]) == (1, "")

        # Past the command line: what nobody, or a stranger, has signed, or was changed since.
        own, stranger = own_signer(mesh.state), own_signer(tmp_path / "stranger")
        source = models / "moods" / "1"
        copy_version(source, models, "5")
        assert "it is not signed" in await until_refused(callers, "5")
        copy_version(source, models, "6", lambda folder: sign(folder, stranger))
        assert "which is not trusted" in await until_refused(callers, "6")
        copy_version(source, models, "7", lambda folder: (sign(folder, own), flip_bit(folder)))
        assert "sha256" in await until_refused(callers, "7")
        asked = len(callers.versions)
        async with asyncio.timeout(LIMIT_S):
            while len(callers.versions) < asked + 50:
                await asyncio.sleep(0.02)
        assert set(callers.versions[asked:]) == {"2"}
    assert not callers.lost, callers.lost[:3]
    assert set(callers.versions) == {"1", "2"}
