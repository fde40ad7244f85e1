"""A version on trial: served by a replica of its own, which nobody else knows, and asked as callers ask.

Not here: which items (`shared.inference.heldout`), what the answers are worth (`comparison`).
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from google.rpc import status_pb2
from sensorium.mesh.v1 import replica_service_pb2, replica_service_pb2_grpc
from sensorium.nlp.v1 import nlp_service_pb2, nlp_service_pb2_grpc
from sensorium.speech.v1 import speech_service_pb2, speech_service_pb2_grpc
from sensorium.vision.v1 import vision_service_pb2, vision_service_pb2_grpc

from cli.failure import CommandError
from cli.place import ROOT
from shared.inference.artifact import Artifact
from shared.inference.heldout import HeldOutSet, Item
from shared.inference.manifest import MANIFEST

# From nothing to a model that is loaded and checked, on a slow machine.
_START_S = 120.0
_CALL_S = 60.0
_STOP_S = 15.0
# How often it is looked whether the process has ended, while nothing listens.
_LOOK_S = 0.25
# Items of a call, and calls at a time: enough for batches, and well within every service's bounds.
_ITEMS, _CALLS = 8, 4
_MAX_BYTES = 64 << 20
# Of the environment, what says how models are run and what is taken; addresses and certificates are the real replicas'.
_KEPT = ("INFERENCE__", "BOUNDS__")

Advance = Callable[[int], None]  # told how many more items were answered


class TrialError(CommandError):
    """A version on trial does not serve, or does not answer."""


class NotServedError(TrialError):
    """The replica has refused to serve the version; the text is its reason."""


@contextlib.contextmanager
def on_trial(artifact: Artifact) -> Iterator[grpc.Channel]:
    """A replica that serves this version alone, for the length of a `with` block; checked as every replica checks it.

    Only its signature is not asked for, which is judged by itself.

    Raises:
        TrialError: the replica does not start.
        NotServedError: it refuses the version.
    """
    with tempfile.TemporaryDirectory(prefix="sensorium-trial-") as made:
        place = Path(made)
        _link(artifact, place / "models" / artifact.name / artifact.version)
        log = place / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "cli.up.tether", str(os.getpid())),
                    f"services.{artifact.service.replace('-', '_')}",
                ],
                env=_environ(artifact, place),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                # A Ctrl-C at the terminal is ours to pass on.
                start_new_session=True,
            )
        try:
            options = [
                ("grpc.max_send_message_length", _MAX_BYTES),
                ("grpc.max_receive_message_length", _MAX_BYTES),
            ]
            with grpc.insecure_channel(f"unix:{place / 'socket'}", options=options) as channel:
                _wait_served(channel, artifact, process, log)
                yield channel
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ask(
    channel: grpc.Channel, name: str, held_out: HeldOutSet, advance: Advance = lambda _: None
) -> list[str]:
    """The label that a version gives each item first, in order; "" where it gives none.

    Raises:
        TrialError: the set's rpc gives no labels, or a call fails.
    """
    try:
        ask_some = _ASKED[held_out.service, held_out.rpc]
    except KeyError:
        known = ", ".join(rpc for _, rpc in _ASKED)
        raise TrialError(
            f"held-out items of {held_out.rpc} cannot be compared by labels; those that can: {known}"
        ) from None
    parts = [held_out.items[at : at + _ITEMS] for at in range(0, len(held_out.items), _ITEMS)]

    def answer(part: Sequence[Item]) -> list[str]:
        labels = ask_some(channel, name, part, held_out.candidate_labels)
        advance(len(part))
        return labels

    pool = ThreadPoolExecutor(_CALLS)
    try:
        return [label for labels in pool.map(answer, parts) for label in labels]
    except grpc.RpcError as error:
        raise TrialError(f"{name}: {held_out.rpc} failed: {error.code().name}: {error.details()}") from error
    finally:
        # What is still under way after a Ctrl-C ends with the channel.
        pool.shutdown(wait=False, cancel_futures=True)


def _link(artifact: Artifact, folder: Path) -> None:
    """The artifact's files, and nothing else, under the names that a repository wants."""
    folder.mkdir(parents=True)
    for name in artifact.manifest.files:
        (folder / name).symlink_to(artifact.folder / name)
    (folder / MANIFEST).write_bytes(artifact.content)


def _environ(artifact: Artifact, place: Path) -> dict[str, str]:
    prefix = f"SENSORIUM_{artifact.service.upper().replace('-', '_')}_"
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SENSORIUM_") or any(name.startswith(f"{prefix}{room}") for room in _KEPT)
    }
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {
        **kept,
        "PYTHONPATH": path,
        "SENSORIUM_STATE_DIR": str(place / "state"),
        "SENSORIUM_LOG_LEVEL": "warning",
        f"{prefix}RPC__DRAIN_NOTICE_S": "0",
        f"{prefix}RPC__ADDRESS": f"unix:{place / 'socket'}",
        f"{prefix}INFERENCE__MODELS_DIR": str(place / "models"),
        f"{prefix}INFERENCE__SIGNATURE__REQUIRED": "false",
        f"{prefix}INFERENCE__SIGNATURE__TRUSTED": "",
        f"{prefix}INFERENCE__VERSION": "latest",
        f"{prefix}INFERENCE__WATCH_S": "0",
        f"{prefix}INFERENCE__GRAPH_CACHE_BYTES": "0",
    }


def _wait_served(
    channel: grpc.Channel, artifact: Artifact, process: "subprocess.Popen[bytes]", log: Path
) -> None:
    what = f"{artifact.service}/{artifact.name} {artifact.version} on trial"
    ends_s = time.monotonic() + _START_S
    connected = grpc.channel_ready_future(channel)
    while True:
        try:
            connected.result(timeout=_LOOK_S)
            break
        except grpc.FutureTimeoutError:
            if (code := process.poll()) is not None:
                said = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise TrialError(
                    f"{what}: its replica ended with exit code {code}: {''.join(said)}"
                ) from None
            if time.monotonic() > ends_s:
                raise TrialError(f"{what}: its replica did not start within {_START_S:.0f} s") from None
    statuses = replica_service_pb2.ModelStatus
    watch = replica_service_pb2_grpc.ReplicaServiceStub(channel).StreamingWatchReplica(
        replica_service_pb2.StreamingWatchReplicaRequest(), timeout=_START_S
    )
    try:
        for snapshot in watch:
            for model in snapshot.models:
                if model.name != artifact.name or model.state == statuses.STATE_LOADING:
                    continue
                if model.state == statuses.STATE_READY:
                    return
                raise NotServedError(model.reason)
    except grpc.RpcError as error:
        raise TrialError(f"{what}: its replica was lost: {error.details()}") from error
    finally:
        watch.cancel()  # type: ignore[no-untyped-call]
    raise TrialError(f"{what}: its replica says nothing of it")


def _first(status: status_pb2.Status, labels: Sequence[str]) -> str:
    return labels[0] if labels and not status.code else ""


def _classify_texts(
    channel: grpc.Channel, name: str, items: Sequence[Item], candidates: Sequence[str]
) -> list[str]:
    request = nlp_service_pb2.ClassifyTextRequest(
        model=name, texts=[item.text or "" for item in items], candidate_labels=candidates
    )
    reply = nlp_service_pb2_grpc.NlpServiceStub(channel).ClassifyText(request, timeout=_CALL_S)
    return [_first(result.status, [one.label for one in result.labels]) for result in reply.results]


def _detect_languages(channel: grpc.Channel, name: str, items: Sequence[Item], _: Sequence[str]) -> list[str]:
    request = nlp_service_pb2.DetectLanguageRequest(model=name, texts=[item.text or "" for item in items])
    reply = nlp_service_pb2_grpc.NlpServiceStub(channel).DetectLanguage(request, timeout=_CALL_S)
    return [_first(result.status, [one.code for one in result.languages]) for result in reply.results]


def _classify_images(channel: grpc.Channel, name: str, items: Sequence[Item], _: Sequence[str]) -> list[str]:
    images = [vision_service_pb2.Image(content=item.content or b"") for item in items]
    request = vision_service_pb2.ClassifyImageRequest(model=name, images=images, top_k=1)
    reply = vision_service_pb2_grpc.VisionServiceStub(channel).ClassifyImage(request, timeout=_CALL_S)
    return [_first(result.status, [one.label for one in result.classifications]) for result in reply.results]


def _recognize_commands(
    channel: grpc.Channel, name: str, items: Sequence[Item], _: Sequence[str]
) -> list[str]:
    stub = speech_service_pb2_grpc.SpeechServiceStub(channel)
    labels = []
    for item in items:
        audio = speech_service_pb2.Audio(content=item.content or b"")
        try:
            reply = stub.RecognizeCommand(
                speech_service_pb2.RecognizeCommandRequest(model=name, audio=audio), timeout=_CALL_S
            )
        except grpc.RpcError as error:
            # A clip that is refused is answered wrong, as a text or an image with a status of its own is.
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            labels.append("")
        else:
            labels.append(reply.commands[0].label if reply.commands else "")
    return labels


_Ask = Callable[[grpc.Channel, str, Sequence[Item], Sequence[str]], list[str]]
_ASKED: Mapping[tuple[str, str], _Ask] = {
    ("nlp", "ClassifyText"): _classify_texts,
    ("nlp", "DetectLanguage"): _detect_languages,
    ("vision", "ClassifyImage"): _classify_images,
    ("speech", "RecognizeCommand"): _recognize_commands,
}
