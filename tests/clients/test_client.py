"""The client's calls against real servicers: what is sent, what comes back, what is raised."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import io
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sensorium import AsyncClient, Client, errors
from sensorium.results import Box, LabelScore, Point, Segment, TranscriptSegment

from tests.clients.mesh_in_process import Seen, start
from tests.support.waiting import within

WAIT_S = 20


def test_one_image_gives_one_result(client: Client, seen: Seen) -> None:
    result = client.classify_image(b"cat", model="efficientnet-lite0", top_k=3, min_score=0.25)
    assert (result.label, result.score, result.error) == ("cat", 0.5, None)
    assert (result.model.name, result.model.version) == ("test/model", "7")
    assert (result.timing.compute_s, result.timing.queue_s) == (1.5, 0.25)
    (request,) = seen.requests
    assert (request.model, request.top_k, request.min_score) == ("efficientnet-lite0", 3, 0.25)


def test_a_list_gives_a_list_in_its_order_over_several_calls(client: Client, seen: Seen) -> None:
    names = [f"image {number}" for number in range(35)]
    results = client.classify_image([name.encode() for name in names])
    assert [result.label for result in results] == names
    assert len(seen.requests) == 5
    assert client.classify_image([]) == []
    assert len(client.classify_image((b"a",))) == 1


def test_large_images_do_not_share_a_call(client: Client, seen: Seen) -> None:
    client.detect_faces([b"x" * (9 << 20), b"y" * (9 << 20)])
    assert len(seen.requests) == 2


def test_a_refused_item_of_a_list_carries_its_error_and_its_own_place(client: Client) -> None:
    results = client.classify_image([b"good"] * 9 + [b"bad"])
    assert [result.error is None for result in results] == [True] * 9 + [False]
    error = results[9].error
    assert isinstance(error, errors.InvalidArgument)
    assert error.violations[0].field == "images[9].content"
    assert error.message == "images[9].content: expected an image, got 3 bytes"
    assert results[9].labels == ()


def test_an_image_that_no_message_can_hold_fails_alone(client: Client) -> None:
    results = client.classify_image([b"a", b"x" * (40 << 20), b"c"])
    assert [result.error is None for result in results] == [True, False, True]
    assert isinstance(results[1].error, errors.ResourceExhausted)
    with pytest.raises(errors.ResourceExhausted, match="larger than max"):
        client.classify_image(b"x" * (40 << 20))


def test_a_refused_single_item_is_raised(client: Client) -> None:
    with pytest.raises(errors.InvalidArgument, match="expected an image"):
        client.classify_image(b"bad")


def test_a_reply_with_too_few_results_is_never_handed_out(client: Client) -> None:
    with pytest.raises(errors.Internal, match="expected 2"):
        client.classify_image([b"a", b"b"], model="short")


def test_the_other_calls_about_images(client: Client, seen: Seen) -> None:
    (found,) = client.detect_objects(b"x", min_score=0.0).objects
    assert (found.label, found.box) == ("person", Box(1, 2, 3, 4))
    assert seen.requests[-1].HasField("min_score")
    client.detect_objects(b"x")
    assert not seen.requests[-1].HasField("min_score")
    (face,) = client.detect_faces(b"x").faces
    assert face.landmarks == {"nose_tip": Point(5, 6), "99": Point(1, 1)}
    text = client.read_text(io.BytesIO(b"x"))
    assert (text.text, text.lines[0].corners[2]) == ("hello", Point(9, 4))
    embedding = client.embed_image(b"x")
    assert embedding.similarity(embedding) == pytest.approx(1, abs=1e-6)


def test_the_calls_about_texts(client: Client, seen: Seen) -> None:
    one, two = client.embed_text(["three words here", "привет"])
    assert (one.token_count, one.reliable, two.reliable) == (3, True, False)
    assert list(one) == [16.0, 1.0]
    with pytest.raises(ValueError, match="expected a vector of 2 numbers, got 3"):
        one.similarity([1.0, 2.0, 3.0])
    labels = client.classify_text("goal!", ["about sports", "about food"])
    assert labels.labels[0] == LabelScore("about sports", 0.5, 0.25)
    assert (labels.label, labels.truncated) == ("about sports", True)
    assert len(client.embed_text([f"text {number}" for number in range(70)])) == 70
    assert len(seen.requests) == 5
    with pytest.raises(TypeError, match=r"texts\[1\]: expected a str, got int"):
        client.embed_text(["a", 1])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="labels"):
        client.classify_text("a", "b")
    with pytest.raises(ValueError, match="surrogate"):
        client.embed_text("\ud800")


def test_a_model_with_labels_of_its_own(client: Client, seen: Seen) -> None:
    found = client.classify_text("good", model="sentiment")
    assert (found.label, found.score, found.labels[0].similarity) == ("positive", 0.75, None)
    assert not seen.requests[-1].candidate_labels
    assert client.classify_text("good", ["a", "b"]).labels[0].similarity == 0.25


def test_languages_and_explanations(client: Client, seen: Seen) -> None:
    found = client.detect_language(["bom dia", "boa noite"], max_results=2)
    assert [(one.language, one.score, one.reliable) for one in found] == [("pt", 0.75, True)] * 2
    assert seen.requests[-1].max_results == 2
    why = client.explain_text(["good", "fine"], label="positive", max_runs=64)
    assert [one.attributions[0].text for one in why] == ["g", "f"]
    assert (why[0].label, why[0].score, why[0].base_score, why[0].run_count) == ("positive", 0.75, 0.5, 16)
    # Each text is many runs: a list is spread over calls, and so over replicas.
    assert [len(request.texts) for request in seen.requests[-2:]] == [1, 1]
    assert (seen.requests[-1].label, seen.requests[-1].max_runs) == ("positive", 64)
    shown = client.explain_image(b"cat", label="tabby")
    assert (shown.label, shown.index, shown.heat_map, shown.run_count) == ("tabby", 7, b"png", 16)
    assert shown.attributions == ((0, 1, 2), (3, 4, 5))


def test_commands(client: Client, seen: Seen) -> None:
    found = client.recognize_command(b"RIFF", max_results=1)
    assert (found.label, found.score, found.commands[0].language, found.audio_s) == ("seven", 0.75, "en", 0.8)
    assert seen.requests[-1].max_results == 1


def test_the_calls_about_clips(client: Client) -> None:
    said = client.transcribe(b"12345", language="en")
    assert (said.text, said.audio_s, said.language) == ("5 bytes", 2.5, "en")
    assert said.segments == (TranscriptSegment(0.5, 1.25, "one", True),)
    speech = client.detect_speech(b"x", threshold=0.5)
    assert (speech.segments, speech.speech_s, speech.max_probability) == ((Segment(0, 0.75),), 0.75, 0.5)
    assert client.embed_speaker(b"x").values == (1.0, 0.0)


def test_clips_fail_alone_unless_the_call_is_to_blame(client: Client) -> None:
    good, bad, more = client.transcribe([b"1", b"bad", b"123"])
    assert (good.text, more.text) == ("1 bytes", "3 bytes")
    assert isinstance(bad.error, errors.InvalidArgument)
    with pytest.raises(errors.NotFound, match="missing"):
        client.transcribe([b"1", b"2"], model="missing")
    with pytest.raises(errors.InvalidArgument):
        client.transcribe(b"bad")


def test_the_mesh_tells_of_itself(client: Client) -> None:
    (model,) = client.list_models()
    assert (model.public_name, model.state, model.ready_replicas) == ("nlp/minilm", "ready", 1)
    (replica,) = client.list_replicas("nlp")
    assert (replica.state, replica.reason) == ("unreachable", "connection refused")
    # Of a model's versions the best one counts.
    assert replica.models == {"minilm": "ready"}
    (limit,) = client.limits()
    assert (limit.max_items, limit.max_audio_s, limit.max_pixels) == (64, 90.0, None)


CODES = {
    "INVALID_ARGUMENT": errors.InvalidArgument,
    "UNAUTHENTICATED": errors.Unauthenticated,
    "PERMISSION_DENIED": errors.PermissionDenied,
    "NOT_FOUND": errors.NotFound,
    "FAILED_PRECONDITION": errors.FailedPrecondition,
    "UNIMPLEMENTED": errors.Unimplemented,
    "RESOURCE_EXHAUSTED": errors.ResourceExhausted,
    "DEADLINE_EXCEEDED": errors.DeadlineExceeded,
    "CANCELLED": errors.Cancelled,
    "UNAVAILABLE": errors.Unavailable,
    "INTERNAL": errors.Internal,
    "DATA_LOSS": errors.SensoriumError,
}


@pytest.mark.parametrize("code", CODES)
def test_every_status_becomes_its_class_with_its_details(client: Client, code: str) -> None:
    with pytest.raises(errors.SensoriumError) as raised:
        client.embed_text(code)
    error = raised.value
    assert type(error) is CODES[code]
    assert (error.code, error.message, error.reason) == (code, f"{code} was asked for", "ASKED_FOR")
    assert (error.retry_after_s, error.request_id) == (1.5, "request-1")
    assert isinstance(error.__cause__, grpc.RpcError)


async def test_async_errors_are_the_same(async_client: AsyncClient) -> None:
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(errors.ResourceExhausted) as raised:
            await async_client.embed_text("RESOURCE_EXHAUSTED")
    assert (raised.value.retry_after_s, raised.value.request_id) == (1.5, "request-1")


async def test_async_answers_are_the_same(async_client: AsyncClient, client: Client) -> None:
    images = [f"image {number}".encode() for number in range(20)] + [b"bad"]
    async with asyncio.timeout(WAIT_S):
        results = await async_client.classify_image(images)
        assert [result.labels for result in results] == [
            result.labels for result in client.classify_image(images)
        ]
        assert isinstance(results[-1].error, errors.InvalidArgument)
        assert (await async_client.transcribe([b"1", b"bad"]))[1].error is not None
        assert await async_client.list_models() == client.list_models()


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert methods(Client) == methods(AsyncClient)


def test_a_call_has_a_timeout_of_its_own(client: Client, seen: Seen) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        client.embed_text("WAIT", timeout_s=0.2)
    assert seen.cancelled.wait(WAIT_S)


async def test_cancelling_an_async_call_reaches_the_mesh(async_client: AsyncClient, seen: Seen) -> None:
    call = asyncio.create_task(async_client.embed_text("WAIT"))
    async with asyncio.timeout(WAIT_S):
        while not seen.requests:
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread(seen.cancelled.wait, WAIT_S)


def test_the_token_travels_with_every_call(client: Client, address: str, seen: Seen, tmp_path: Path) -> None:
    client.embed_text("a")
    assert seen.metadata[-1]["authorization"] == "Bearer secret"
    with Client(address, token="") as without:
        without.embed_text("a")
    assert "authorization" not in seen.metadata[-1]


async def test_a_priority_is_of_the_client_or_of_one_call(address: str, seen: Seen) -> None:
    with Client(address, token="", priority="batch") as client:
        client.embed_text("a")
        client.embed_text("a", priority="interactive")
        with pytest.raises(ValueError, match="expected `interactive` or `batch`, got 'urgent'"):
            client.embed_text("a", priority="urgent")  # type: ignore[call-overload]
    async with AsyncClient(address, token="") as caller:
        await within(caller.embed_text("a"))
        await within(caller.embed_text("a", priority="batch"))
    sent = [metadata.get("x-sensorium-priority", "") for metadata in seen.metadata]
    assert sent == ["batch", "", "", "batch"]


def test_a_replaced_token_file_is_read_again(
    address: str, seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    monkeypatch.setenv("SENSORIUM_TOKEN_FILE", str(file))
    with Client(address) as client:
        client.embed_text("a")
        fresh = tmp_path / "fresh"
        fresh.write_text("second\n")
        fresh.replace(file)
        client.embed_text("a")
    assert [metadata["authorization"] for metadata in seen.metadata] == ["Bearer first", "Bearer second"]


def test_nobody_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        Client("127.0.0.1:1", token="") as client,
        pytest.raises(errors.CannotConnect, match=r"at 127\.0\.0\.1:1;"),
    ):
        client.embed_text("a", timeout_s=10)


def test_a_unix_socket(seen: Seen, tmp_path: Path) -> None:
    server, address = start(seen, f"unix:{tmp_path}/socket")
    with Client(address) as client:
        assert client.embed_text("a").token_count == 1
    server.stop(None).wait(10)


def test_tls_with_a_private_authority(seen: Seen) -> None:
    key, certificate = make_certificate()
    server, address = start(seen, "localhost:0", grpc.ssl_server_credentials([(key, certificate)]))
    with Client(f"https://{address}", token="secret", root_certificates=certificate) as client:
        assert client.embed_text("a").token_count == 1
    assert seen.metadata[-1]["authorization"] == "Bearer secret"
    with Client(address, token="", secure=True) as stranger, pytest.raises(errors.Unavailable):
        stranger.embed_text("a", timeout_s=5)
    server.stop(None).wait(10)


def make_certificate() -> tuple[bytes, bytes]:
    """Key and certificate of `localhost`, good for a minute."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(minutes=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)


def test_threads_may_share_a_client(client: Client) -> None:
    answers: dict[int, float] = {}

    def ask(number: int) -> None:
        answers[number] = client.embed_text("x" * number).values[0]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert answers == {number: float(number) for number in range(1, 9)}


def test_results_are_frozen(client: Client) -> None:
    result = client.classify_image(b"cat")
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.labels = ()  # type: ignore[misc]
