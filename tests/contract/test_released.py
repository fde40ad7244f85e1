"""A change of protos/ that would break a caller of the released contract is refused, one that adds is not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api import annotations_pb2, field_behavior_pb2, http_pb2
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
BUF = HERE / "node_modules/.bin/buf"
VISION = "sensorium/vision/v1/vision_service.proto"
SPEECH = "sensorium/speech/v1/speech_service.proto"
NLP = "sensorium/nlp/v1/nlp_service.proto"
MESH = "sensorium/mesh/v1/mesh_service.proto"
CONFIG = "sensorium/oip/v2/model_config.proto"


def check(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What `make protos-check` asks buf, of the protos in another folder."""
    command = [BUF, *words, ".", "--config", HERE / "buf.yaml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def breaking(folder: Path) -> subprocess.CompletedProcess[str]:
    return check(folder, "breaking", "--against", str(HERE / "released.binpb"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    return tmp_path


def change(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / "protos" / name
    text = path.read_text()
    assert old in text, f"{name} has changed: choose another line for this test"
    path.write_text(text.replace(old, new, 1))


def test_the_protos_are_as_they_should_be(folder: Path) -> None:
    assert check(folder, "lint").stdout == ""
    assert breaking(folder).stdout == ""


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        pytest.param(VISION, "int32 top_k = 3 ", "int32 top_k = 30 ", "was deleted", id="field number"),
        pytest.param(VISION, "int32 top_k = 3 ", "int64 top_k = 3 ", "changed type", id="field type"),
        pytest.param(VISION, "int32 top_k = 3 ", "int32 k = 3 ", "changed name", id="field name"),
        pytest.param(
            VISION, "int32 top_k = 3 ", "repeated int32 top_k = 3 ", "cardinality", id="cardinality"
        ),
        pytest.param(
            VISION,
            "  rpc DetectFaces(DetectFacesRequest) returns (DetectFacesResponse) {",
            "  rpc FindFaces(DetectFacesRequest) returns (DetectFacesResponse) {",
            'RPC "DetectFaces" on service "VisionService" was deleted',
            id="rpc removed",
        ),
        pytest.param(
            MESH,
            "option idempotency_level = NO_SIDE_EFFECTS;",
            "option idempotency_level = IDEMPOTENCY_UNKNOWN;",
            "idempotency_level",
            id="what is retried",
        ),
        pytest.param(CONFIG, "TYPE_FP16 = 10;", "TYPE_HALF = 10;", "changed name", id="enum value renamed"),
        pytest.param(
            SPEECH, "message Audio {", "message Sound {", '"Audio" was deleted', id="message renamed"
        ),
        pytest.param(NLP, 'java_package = "dev', 'java_package = "org', "java_package", id="package in Java"),
    ],
)
def test_a_change_that_breaks_callers_is_refused(
    folder: Path, name: str, old: str, new: str, said: str
) -> None:
    change(folder, name, old, new)
    if "Sound" in new:  # the message's uses go with it, so that the file compiles
        path = folder / "protos" / name
        path.write_text(path.read_text().replace("  Audio audio", "  Sound audio"))
    done = breaking(folder)
    assert done.returncode != 0
    assert said in done.stdout, done.stdout


def test_a_message_that_moves_to_another_file_is_refused(folder: Path) -> None:
    """The bytes stay the same, but Python and C++ import by file."""
    shutil.move(
        folder / "protos/sensorium/types/v1/embedding.proto",
        folder / "protos/sensorium/types/v1/vector.proto",
    )
    for path in (folder / "protos/sensorium").rglob("*.proto"):
        path.write_text(path.read_text().replace("types/v1/embedding.proto", "types/v1/vector.proto"))
    assert "embedding.proto" in breaking(folder).stdout


def test_a_change_that_adds_passes(folder: Path) -> None:
    change(
        folder,
        VISION,
        "message ClassifyImageRequest {\n",
        "message ClassifyImageRequest {\n  // Optional. Something new.\n  bool something_new = 99;\n\n",
    )
    change(
        folder,
        VISION,
        "  // Finds objects and says where they are.\n",
        "  // Says something new.\n"
        "  rpc CaptionImage(CaptionImageRequest) returns (CaptionImageResponse) {\n"
        "    option idempotency_level = NO_SIDE_EFFECTS;\n  }\n\n"
        "  // Finds objects and says where they are.\n",
    )
    path = folder / "protos" / VISION
    path.write_text(
        path.read_text()
        + "\n// Request of CaptionImage.\nmessage CaptionImageRequest {}\n"
        + "\n// Reply of CaptionImage.\nmessage CaptionImageResponse {}\n"
    )
    assert breaking(folder).stdout == ""
    assert check(folder, "lint").stdout == ""


def test_a_declaration_without_a_comment_is_refused(folder: Path) -> None:
    path = folder / "protos" / NLP
    path.write_text(path.read_text() + "\nmessage Bare {}\n")
    assert 'Message "Bare" should have a non-empty comment' in check(folder, "lint").stdout


# What buf does not read: the annotations that make the JSON face and that say what a request must hold.


def read_set(path: Path) -> list[descriptor_pb2.FileDescriptorProto]:
    return list(descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file)


def list_routes(files: list[descriptor_pb2.FileDescriptorProto]) -> dict[str, list[tuple[str, str, str]]]:
    """Verb, path and body of every rpc that is also HTTP/JSON."""

    def read(rule: http_pb2.HttpRule) -> Iterator[tuple[str, str, str]]:
        verb = rule.WhichOneof("pattern") or ""
        yield verb, str(getattr(rule, verb)), rule.body
        for more in rule.additional_bindings:
            yield from read(more)

    return {
        f"{file.package}.{service.name}/{method.name}": list(
            read(method.options.Extensions[annotations_pb2.http])
        )
        for file in files
        for service in file.service
        for method in service.method
        if method.options.HasExtension(annotations_pb2.http)
    }


def list_required(files: list[descriptor_pb2.FileDescriptorProto]) -> dict[str, bool]:
    """Every field of the files' messages, and whether a request must have it."""
    required = field_behavior_pb2.FieldBehavior.REQUIRED

    def read(prefix: str, message: descriptor_pb2.DescriptorProto) -> Iterator[tuple[str, bool]]:
        name = f"{prefix}.{message.name}"
        for field in message.field:
            yield (
                f"{name}.{field.name}",
                required in field.options.Extensions[field_behavior_pb2.field_behavior],
            )
        for nested in message.nested_type:
            yield from read(name, nested)

    return dict(pair for file in files for it in file.message_type for pair in read(file.package, it))


RELEASED, NOW = read_set(HERE / "released.binpb"), read_set(ROOT / "gateway/descriptors.binpb")


def test_every_released_path_of_http_is_still_there() -> None:
    routes = list_routes(NOW)
    assert len(list_routes(RELEASED)) >= 17
    for rpc, bindings in list_routes(RELEASED).items():
        assert set(bindings) <= set(routes[rpc]), rpc


def test_no_request_must_hold_more_than_it_had_to() -> None:
    before = list_required(RELEASED)
    assert any(before.values())
    messages = {name.rpartition(".")[0] for name in before}
    harder = [
        name
        for name, required in list_required(NOW).items()
        # A message that is new may ask for what it wants.
        if required and not before.get(name, False) and name.rpartition(".")[0] in messages
    ]
    assert not harder
