"""The contract's own rules, checked on the compiled protos."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"
PROTOC = [str(ROOT / ".venv-protos/bin/python"), "-m", "grpc_tools.protoc", f"-I{PROTOS}"]
SOURCES = sorted(path.relative_to(PROTOS).as_posix() for path in (PROTOS / "sensorium").rglob("*.proto"))

# Paths inside FileDescriptorProto, by which source locations name a declaration.
MESSAGE, ENUM, SERVICE, FIELD, NESTED, NESTED_ENUM, VALUE, METHOD, ONEOF = 4, 5, 6, 2, 3, 4, 2, 2, 8


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[descriptor_pb2.FileDescriptorProto]:
    out = tmp_path_factory.mktemp("protos") / "all.binpb"
    subprocess.run(
        [*PROTOC, "--include_source_info", f"--descriptor_set_out={out}", *SOURCES], check=True, timeout=60
    )
    return list(descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file)


def declarations(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    def message(
        path: tuple[int, ...], name: str, it: descriptor_pb2.DescriptorProto
    ) -> Iterator[tuple[tuple[int, ...], str]]:
        if it.options.map_entry:
            return
        yield path, name
        for n, field in enumerate(it.field):
            yield (*path, FIELD, n), f"{name}.{field.name}"
        for n, nested in enumerate(it.nested_type):
            yield from message((*path, NESTED, n), f"{name}.{nested.name}", nested)
        for n, nested_enum in enumerate(it.enum_type):
            yield from enum((*path, NESTED_ENUM, n), f"{name}.{nested_enum.name}", nested_enum)

    def enum(
        path: tuple[int, ...], name: str, it: descriptor_pb2.EnumDescriptorProto
    ) -> Iterator[tuple[tuple[int, ...], str]]:
        yield path, name
        for n, value in enumerate(it.value):
            yield (*path, VALUE, n), f"{name}.{value.name}"

    for n, it in enumerate(file.message_type):
        yield from message((MESSAGE, n), it.name, it)
    for n, it in enumerate(file.enum_type):
        yield from enum((ENUM, n), it.name, it)
    for n, it in enumerate(file.service):
        yield (SERVICE, n), it.name
        for m, method in enumerate(it.method):
            yield (SERVICE, n, METHOD, m), f"{it.name}.{method.name}"


def test_every_declaration_is_commented(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    bare = []
    for file in files:
        commented = {
            tuple(place.path) for place in file.source_code_info.location if place.leading_comments.strip()
        }
        bare += [f"{file.name}: {name}" for path, name in declarations(file) if path not in commented]
    assert not bare


def test_directory_is_package_is_version(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    for file in files:
        if file.package != "inference":  # the wire of the Open Inference Protocol fixes that name
            assert file.package == str(Path(file.name).parent).replace("/", ".")


def test_every_rpc_says_whether_it_may_be_repeated_and_streams_by_name(
    files: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    for file in files:
        for service in file.service:
            for method in service.method:
                assert method.options.HasField("idempotency_level"), method.name
                streams = method.client_streaming or method.server_streaming
                # The wire of the Open Inference Protocol fixes its names.
                if file.package != "inference":
                    assert streams == method.name.startswith("Streaming"), method.name


def test_every_rpc_has_its_own_messages_outside_the_fixed_wire(
    files: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    for file in files:
        if file.package == "inference":
            continue
        for service in file.service:
            for method in service.method:
                assert method.input_type.endswith(f".{method.name}Request")
                assert method.output_type.endswith(f".{method.name}Response")


def test_every_enum_begins_unspecified(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    for file in files:
        if file.package == "inference":
            continue
        enums = [*file.enum_type, *(enum for message in file.message_type for enum in message.enum_type)]
        for enum in enums:
            assert enum.value[0].number == 0, enum.name
            assert enum.value[0].name.endswith("_UNSPECIFIED"), enum.name


def test_every_file_names_its_package_in_other_languages(
    files: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    for file in files:
        options = file.options
        assert options.go_package, file.name
        assert options.java_package, file.name
        assert options.java_multiple_files, file.name
        assert options.csharp_namespace, file.name


def test_committed_stubs_and_descriptors_are_what_the_protos_give(tmp_path: Path) -> None:
    subprocess.run([*PROTOC, f"--python_out={tmp_path}", *SOURCES], check=True, timeout=60)
    for made in tmp_path.rglob("*_pb2.py"):
        committed = ROOT / "clients/python" / made.relative_to(tmp_path)
        assert committed.read_text() == made.read_text(), f"{committed} is stale: run `make protos`"
    made = tmp_path / "descriptors.binpb"
    subprocess.run(
        [
            *PROTOC,
            "--include_imports",
            f"--descriptor_set_out={made}",
            *SOURCES,
            "google/rpc/error_details.proto",
        ],
        check=True,
        timeout=60,
    )
    assert (ROOT / "gateway/descriptors.binpb").read_bytes() == made.read_bytes(), "stale: run `make protos`"


@pytest.mark.parametrize(
    ("language", "made"),
    [("cpp", "vision_service.pb.h"), ("java", "ClassifyImageRequest.java"), ("csharp", "VisionService.cs")],
)
def test_other_languages_can_generate_their_messages(language: str, made: str, tmp_path: Path) -> None:
    environment = ROOT / ".venv-protos"
    google = [path.relative_to(PROTOS).as_posix() for path in (PROTOS / "google").rglob("*.proto")]
    option = ["--csharp_opt=base_namespace="] if language == "csharp" else []
    command = [
        environment / "bin/protoc",
        f"-I{PROTOS}",
        f"-I{environment}/include",
        f"--{language}_out={tmp_path}",
        *option,
    ]
    subprocess.run([*command, *SOURCES, *google], check=True, timeout=60)
    assert list(tmp_path.rglob(made))


TRITON = """
import json
from tritonclient.grpc import service_pb2, model_config_pb2
def fields(message):
    found = {f.name: [f.number, f.type, f.is_repeated] for f in message.fields}
    nested = {n.name: fields(n) for n in message.nested_types}
    return {"fields": found, "nested": nested}
messages = {}
for module in (service_pb2, model_config_pb2):
    messages |= {m.name: fields(m) for m in module.DESCRIPTOR.message_types_by_name.values()}
enums = {e.name: {v.name: v.number for v in e.values} for e in model_config_pb2.DESCRIPTOR.enum_types_by_name.values()}
service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
methods = {
    m.name: [m.input_type.name, m.output_type.name, m.client_streaming, m.server_streaming] for m in service.methods
}
print(json.dumps({"messages": messages, "enums": enums, "methods": methods}))
"""


def test_the_open_inference_protocol_is_the_one_that_its_reference_client_speaks() -> None:
    from sensorium.oip.v2 import inference_pb2, model_config_pb2

    python = ROOT / ".venv-tritonclient/bin/python"
    theirs = json.loads(
        subprocess.run([python, "-c", TRITON], check=True, capture_output=True, timeout=60).stdout
    )

    def compare(ours: object, reference: dict, name: str) -> None:
        for field in ours.fields:
            assert [field.number, field.type, field.is_repeated] == reference["fields"][field.name], (
                f"{name}.{field.name}"
            )
        for nested in ours.nested_types:
            compare(nested, reference["nested"][nested.name], f"{name}.{nested.name}")

    for module in (inference_pb2, model_config_pb2):
        for message in module.DESCRIPTOR.message_types_by_name.values():
            compare(message, theirs["messages"][message.name], message.name)
    for enum in model_config_pb2.DESCRIPTOR.enum_types_by_name.values():
        assert {v.name: v.number for v in enum.values} == theirs["enums"][enum.name]
    ours = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    assert {method.name for method in ours} == theirs["methods"].keys()
    for method in ours:
        assert [
            method.input_type.name,
            method.output_type.name,
            method.client_streaming,
            method.server_streaming,
        ] == theirs["methods"][method.name]
