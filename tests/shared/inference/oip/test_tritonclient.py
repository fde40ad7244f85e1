"""The reference client of the protocol, unmodified, straight to a replica on either front: all of its surface."""

from __future__ import annotations

from pathlib import Path

from shared.inference.oip.message import add_to_server
from shared.inference.oip.servicer import InferenceServicer
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from tests.shared.inference.oip.surface import ask, write_models
from tests.support.serving import serving
from tests.support.signing import UNSIGNED
from tests.support.waiting import within


async def test_all_of_tritonclient_works(tmp_path: Path, front: str) -> None:
    write_models(tmp_path, "test")
    repository = Repository(tmp_path, "test", InferenceSettings(signature=UNSIGNED, intra_op_threads=1), {})
    await within(repository.load_all())
    servicer = InferenceServicer(repository)
    async with serving(lambda server: add_to_server(servicer, server), front=front) as running:
        said = await ask(running.address)
    await within(repository.close())
    assert not any(said.values()), "\n".join(f"{name}: {wrong}" for name, wrong in said.items() if wrong)
    assert len(said) >= 24
