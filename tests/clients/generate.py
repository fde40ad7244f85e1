"""Generates stubs for other languages from protos/ alone, with each language's own plugins, and says what came out.

`make test-clients` prints the table and writes `.bench/clients.json`. Debian has the plugins: protoc-gen-go-1-5,
protoc-gen-go-grpc, protobuf-compiler-grpc, protobuf-compiler-grpc-java-plugin. A plugin that is missing is said to be
missing; what was generated is not compiled here.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.report import Row, publish

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"
ENVIRONMENT = ROOT / ".venv-protos"


@dataclass(frozen=True)
class Language:
    """How protoc is told to write one language. `plugin` is a program on PATH, none where protoc has it built in."""

    name: str
    out: str
    options: tuple[str, ...]
    plugin: str | None
    expected: str
    vendored: bool = False


LANGUAGES = (
    Language("go/messages", "--go_out", (), "protoc-gen-go", "*/vision_service.pb.go"),
    Language("go/services", "--go-grpc_out", (), "protoc-gen-go-grpc", "*/vision_service_grpc.pb.go"),
    Language("java/messages", "--java_out", (), None, "*/ClassifyImageRequest.java", vendored=True),
    Language("java/services", "--grpc_out", (), "grpc_java_plugin", "*/VisionServiceGrpc.java"),
    Language("cpp/messages", "--cpp_out", (), None, "*/vision_service.pb.h", vendored=True),
    Language("cpp/services", "--grpc_out", (), "grpc_cpp_plugin", "*/vision_service.grpc.pb.h"),
    Language(
        "csharp/messages",
        "--csharp_out",
        ("--csharp_opt=base_namespace=",),
        None,
        "*/VisionService.cs",
        vendored=True,
    ),
    # Its plugin comes with the NuGet package Grpc.Tools only.
    Language("csharp/services", "--grpc_out", (), "grpc_csharp_plugin", "*/VisionServiceGrpc.cs"),
)


def generate(language: Language, sources: list[str], google: list[str]) -> Row:
    """Runs protoc for one language; the value is the number of files that came out."""
    how = f"{language.out} with {language.plugin or 'protoc itself'}"
    plugin = None if language.plugin is None else shutil.which(language.plugin)
    if language.plugin is not None and plugin is None:
        return Row(
            language.name,
            None,
            None,
            None,
            "files",
            ">= 1",
            "not measured",
            f"{language.plugin} is not installed",
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(ENVIRONMENT / "bin/protoc"),
            f"-I{PROTOS}",
            f"-I{ENVIRONMENT}/include",
            f"{language.out}={folder}",
        ]
        if plugin is not None and language.out == "--grpc_out":
            command.append(f"--plugin=protoc-gen-grpc={plugin}")
        done = subprocess.run(
            [*command, *language.options, *sources, *(google if language.vendored else [])],
            capture_output=True,
            text=True,
            timeout=60,
        )
        made = [path for path in Path(folder).rglob("*") if path.is_file()]
        holds = done.returncode == 0 and any(path.match(language.expected) for path in made)
    return Row(
        language.name, len(made), len(made), len(made), "files", ">= 1", holds, done.stderr.strip() or how
    )


def main() -> int:
    """Exit status 1 if a language that could be generated did not come out."""
    sources = sorted(path.relative_to(PROTOS).as_posix() for path in (PROTOS / "sensorium").rglob("*.proto"))
    google = sorted(path.relative_to(PROTOS).as_posix() for path in (PROTOS / "google").rglob("*.proto"))
    rows = [generate(language, sources, google) for language in LANGUAGES]
    publish(rows, ROOT / ".bench/clients.json", "stubs generated from protos/")
    return int(any(row.holds is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
