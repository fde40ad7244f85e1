"""What the protos say, read from descriptor sets: services, methods, their JSON paths, what may be repeated.

The gateway knows the domains by this alone and imports none of their stubs. Pure but for reading the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from gateway.config import MeshFile
from shared.errors import StartupError

OWN_DESCRIPTORS = Path(__file__).parent / "descriptors.binpb"
INFERENCE = "inference.GRPCInferenceService"
MESH = "sensorium.mesh.v1.MeshService"
HEALTH = "grpc.health.v1.Health"
REFLECTIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
# Fields that name a model: `model` in typed requests, the other two in the Open Inference Protocol.
MODEL_FIELDS = ("model", "model_name")
INFERENCE_MODEL_FIELDS = ("model_name", "name")
# And those that name one of its versions, which only the Open Inference Protocol has.
INFERENCE_VERSION_FIELDS = ("model_version", "version")
# Calls of the Open Inference Protocol that change what is served, or how: the control plane passes them on.
ADMINISTRATION = ("RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings")
VERBS = ("get", "put", "post", "delete", "patch")


class ContractError(StartupError):
    """A descriptor set is missing, unreadable, or does not declare what `mesh.yaml` names."""


@dataclass(frozen=True)
class Method:
    """One rpc.

    model_field, version_field: fields of the request that name the model and its version, or "" if none does.
    repeatable: the proto says that calling it twice does no harm (`idempotency_level`). streaming: in either direction;
    client_streaming: the caller goes on sending. json_paths: regular expressions of the paths it has over HTTP/JSON.
    """

    service: str
    name: str
    model_field: str
    version_field: str
    repeatable: bool
    streaming: bool
    client_streaming: bool
    json_paths: tuple[str, ...]

    @property
    def path(self) -> str:
        """As it stands in `:path`, e.g. `/inference.GRPCInferenceService/ModelInfer`."""
        return f"/{self.service}/{self.name}"

    @property
    def administrative(self) -> bool:
        """Whether it needs the scope of administrators, and is answered by the control plane."""
        return self.service == INFERENCE and self.name in ADMINISTRATION


@dataclass(frozen=True)
class Contract:
    """Everything that is declared; `files` are in the order of their dependencies."""

    files: tuple[descriptor_pb2.FileDescriptorProto, ...]
    services: Mapping[str, tuple[Method, ...]]

    def serialized(self) -> bytes:
        """All files as one descriptor set."""
        return descriptor_pb2.FileDescriptorSet(file=self.files).SerializeToString()

    def method(self, path: str) -> Method | None:
        """The method at `/<service>/<name>`, if it is declared."""
        service, _, name = path.removeprefix("/").partition("/")
        return next((method for method in self.services.get(service, ()) if method.name == name), None)


def read_contract(file: MeshFile, own: Path = OWN_DESCRIPTORS) -> Contract:
    """The gateway's own descriptor set and those that services name. Raises ContractError or ConfigError."""
    sets = [_read(own)]
    for n, service in enumerate(file.mesh.services):
        if service.descriptors:
            try:
                sets.append(_read(file.resolve(service.descriptors)))
            except ContractError as error:
                raise file.error(("services", n, "descriptors"), str(error)) from error
    contract = merge(sets)
    for n, service in enumerate(file.mesh.services):
        for m, name in enumerate(service.grpc):
            if name not in contract.services:
                known = ", ".join(sorted(contract.services))
                raise file.error(
                    ("services", n, "grpc", m),
                    f"no descriptor set declares {name}; those declared: {known}; name its set in `descriptors`",
                )
            if name in (INFERENCE, MESH, HEALTH, *REFLECTIONS):
                raise file.error(("services", n, "grpc", m), f"{name} is answered for every service already")
    return contract


def merge(sets: Iterable[descriptor_pb2.FileDescriptorSet]) -> Contract:
    """Joins descriptor sets; of a file that stands in several the first counts."""
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for one in sets:
        for file in one.file:
            files.setdefault(file.name, file)
    for module in (health_pb2, reflection_pb2):
        proto = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        files.setdefault(proto.name, proto)
    messages: dict[str, descriptor_pb2.DescriptorProto] = {}
    for file in files.values():
        prefix = f".{file.package}" if file.package else ""
        messages |= {f"{prefix}.{message.name}": message for message in file.message_type}
    services = {
        f"{file.package}.{service.name}".removeprefix("."): tuple(
            _method(f"{file.package}.{service.name}".removeprefix("."), method, messages)
            for method in service.method
        )
        for file in files.values()
        for service in file.service
    }
    return Contract(tuple(files.values()), services)


def path_expression(template: str) -> str:
    """A regular expression for a `google.api.http` path template (google/api/http.proto, "Path template syntax")."""

    def segment(match: re.Match[str]) -> str:
        if match["variable"]:
            _, _, inner = match["variable"].partition("=")
            return path_expression(inner or "*")
        return {"**": ".*", "*": "[^/]+"}.get(match[0]) or re.escape(match[0])

    return re.sub(r"\{(?P<variable>[^}]*)\}|\*\*|\*|[^{}*]+", segment, template)


def _method(
    service: str,
    method: descriptor_pb2.MethodDescriptorProto,
    messages: Mapping[str, descriptor_pb2.DescriptorProto],
) -> Method:
    text = descriptor_pb2.FieldDescriptorProto
    inference = service == INFERENCE
    fields: tuple[str, ...] = INFERENCE_MODEL_FIELDS if inference else MODEL_FIELDS
    versions: tuple[str, ...] = INFERENCE_VERSION_FIELDS if inference else ()
    if inference and not method.name.startswith("Model"):
        # Its other calls are about the server, or about regions of memory: what is called `name` there is no model's.
        fields = versions = ()
    request = messages.get(method.input_type)
    declared = {
        field.name
        for field in (request.field if request else ())
        if field.type == text.TYPE_STRING and field.label != text.LABEL_REPEATED
    }
    rule: HttpRule = method.options.Extensions[annotations_pb2.http]
    templates = [
        getattr(one, verb)
        for one in (rule, *rule.additional_bindings)
        for verb in VERBS
        if getattr(one, verb)
    ]
    return Method(
        service=service,
        name=method.name,
        model_field=next((field for field in fields if field in declared), ""),
        version_field=next((field for field in versions if field in declared), ""),
        repeatable=method.options.idempotency_level
        in (descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS, descriptor_pb2.MethodOptions.IDEMPOTENT),
        streaming=method.client_streaming or method.server_streaming,
        client_streaming=method.client_streaming,
        json_paths=tuple(path_expression(template) for template in templates),
    )


def _read(path: Path) -> descriptor_pb2.FileDescriptorSet:
    try:
        found = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    except OSError as error:
        raise ContractError(f"{path}: cannot be read: {error.strerror}; `make protos` writes it") from error
    except DecodeError as error:
        raise ContractError(
            f"{path}: expected a descriptor set (protoc --include_imports --descriptor_set_out), got something else"
        ) from error
    if not found.file:
        raise ContractError(f"{path}: expected a descriptor set, got an empty one")
    return found
