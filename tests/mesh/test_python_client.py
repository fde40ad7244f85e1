"""The Python client's streams and tensors through the gateway, beside what its single calls answer."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sensorium import AsyncClient, Client, errors

from tests.mesh.running import RunningMesh
from tests.support.waiting import take

TIMEOUT_S = 60
SENTENCES = [f"Sentence number {number} of a longer story." for number in range(40)]


@pytest.fixture(scope="module")
def client(mesh: RunningMesh) -> Iterator[Client]:
    with Client(mesh.address, token=mesh.token, timeout_s=TIMEOUT_S) as client:
        yield client


def test_a_stream_answers_what_a_list_does(client: Client, sample: Callable[[str], Path]) -> None:
    streamed = list(client.stream(client.embed_text, iter(SENTENCES)))
    listed = client.embed_text(SENTENCES)
    for one, other in zip(streamed, listed, strict=True):
        assert one.similarity(other) > 1 - 1e-5
    good, bad, other = client.stream(
        client.classify_image, [sample("cat"), b"bad", sample("portrait")], top_k=1
    )
    assert good.label.split(",")[0] in {"Egyptian cat", "tabby", "tiger cat"}
    assert isinstance(bad.error, errors.InvalidArgument)
    assert other.label


async def test_an_async_stream_of_unknown_length(mesh: RunningMesh) -> None:
    async def source() -> AsyncIterator[str]:
        while True:
            for sentence in SENTENCES:
                yield sentence

    async with (
        AsyncClient(mesh.address, token=mesh.token, timeout_s=TIMEOUT_S) as client,
        contextlib.aclosing(client.stream(client.detect_language, source())) as results,
    ):
        assert {(await take(results)).language for _ in range(100)} == {"en"}


def messages(count: int) -> Iterator[dict[str, np.ndarray]]:
    for number in range(count):
        ids = np.array([[101, 4937, 2000 + number, 102]])
        yield {"input_ids": ids, "attention_mask": np.ones_like(ids)}


async def test_tensors_alone_and_in_a_stream(mesh: RunningMesh, client: Client) -> None:
    alone = [client.infer("minilm", inputs)["embedding"] for inputs in messages(12)]
    assert alone[0].shape == (1, 384)
    for answer, expected in zip(client.stream_infer("nlp/minilm", messages(12)), alone, strict=True):
        np.testing.assert_allclose(answer["embedding"], expected, atol=1e-4)
    async with AsyncClient(mesh.address, token=mesh.token, timeout_s=TIMEOUT_S) as other:
        stream = other.stream_infer("minilm", messages(12), ["embedding"])
        for expected in alone:
            np.testing.assert_allclose((await take(stream))["embedding"], expected, atol=1e-4)
        for stream in (
            other.stream_infer("no-such-model", messages(12)),
            other.stream_infer("vision/minilm", messages(1)),
        ):
            with pytest.raises(errors.NotFound):
                await take(stream)
    with pytest.raises(errors.NotFound):
        next(client.stream_infer("no-such-model", messages(12)))
    wrong, right = client.stream_infer("minilm", [{"input_ids": np.zeros(1)}, *messages(1)])
    assert wrong.error is not None
    assert right.error is None
