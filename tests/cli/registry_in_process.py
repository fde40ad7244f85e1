"""A package registry on loopback that pip and npm can be pointed at: real archives, counted and stallable downloads."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cli.pull.catalog import Source


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_wheel(members: Mapping[str, bytes], name: str = "tiny_model", version: str = "1.0") -> bytes:
    """A wheel with just what pip looks at, and `members`."""
    stream = io.BytesIO()
    folder = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(stream, "w") as wheel:
        for path, content in members.items():
            wheel.writestr(path, content)
        wheel.writestr(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{folder}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{folder}/RECORD", "")
    return stream.getvalue()


def make_pack(members: Mapping[str, bytes], name: str = "tiny-model", version: str = "1.0.0") -> bytes:
    """What `npm pack` makes."""
    stream = io.BytesIO()
    manifest = json.dumps({"name": name, "version": version}).encode()
    with tarfile.open(fileobj=stream, mode="w:gz") as pack:
        for path, content in {"package/package.json": manifest, **members}.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            pack.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def pypi_source(archive: bytes, members: Mapping[str, bytes], **changes: object) -> Source:
    fields: dict[str, object] = {
        "registry": "pypi",
        "package": "tiny-model",
        "version": "1.0",
        "file": "tiny_model-1.0-py3-none-any.whl",
        "sha256": sha256(archive),
        "members": {path: sha256(content) for path, content in members.items()},
    }
    return Source(**{**fields, **changes})  # type: ignore[arg-type]


def npm_source(archive: bytes, members: Mapping[str, bytes]) -> Source:
    return Source(
        registry="npm",
        package="tiny-model",
        version="1.0.0",
        file="tiny-model-1.0.0.tgz",
        sha256=sha256(archive),
        members={path: sha256(content) for path, content in members.items()},
    )


@dataclass
class Registry:
    """Serves files under names; `stall` holds a download back in its middle until `release` is set."""

    files: dict[str, bytes] = field(default_factory=dict)
    downloads: Counter[str] = field(default_factory=Counter)
    stall: bool = False
    stalled: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    def environ(self, folder: Path) -> dict[str, str]:
        """The environment for a process whose pip and npm know this registry and nothing else."""
        kept = {
            key: value for key, value in os.environ.items() if not key.upper().startswith(("PIP_", "NPM_"))
        }
        return {
            **kept,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"http://{self.address}/simple/",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_RETRIES": "0",
            "npm_config_registry": f"http://{self.address}/npm/",
            "npm_config_userconfig": str(folder / "npmrc"),
            "npm_config_cache": str(folder / "npm-cache"),
            "npm_config_fetch_retries": "0",
        }

    def start(self) -> ThreadingHTTPServer:
        registry = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = self.path.strip("/").split("/")
                if parts[0] == "simple" and len(parts) == 2:
                    links = "".join(
                        f'<a href="/files/{name}">{name}</a>'
                        for name in registry.files
                        if name.endswith(".whl")
                    )
                    self.reply(f"<html><body>{links}</body></html>".encode(), "text/html")
                elif parts[0] == "npm":
                    self.reply(registry.describe_npm(parts[1]), "application/json")
                elif parts[0] == "files" and parts[1] in registry.files:
                    registry.downloads[parts[1]] += 1
                    self.reply(registry.files[parts[1]], "application/octet-stream", stall=registry.stall)
                else:
                    self.send_error(404)

            def reply(self, content: bytes, kind: str, *, stall: bool = False) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                half = len(content) // 2 if stall else 0
                try:
                    self.wfile.write(content[:half])
                    if stall:
                        self.wfile.flush()
                        registry.stalled.set()
                        registry.release.wait(60)
                    self.wfile.write(content[half:])
                except OSError:
                    return

            def log_message(self, *_: object) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        server.daemon_threads = True
        self.address = f"127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def describe_npm(self, name: str) -> bytes:
        file = f"{name}-1.0.0.tgz"
        integrity = base64.b64encode(hashlib.sha512(self.files.get(file, b"")).digest()).decode()
        dist = {"tarball": f"http://{self.address}/files/{file}", "integrity": f"sha512-{integrity}"}
        version = {"name": name, "version": "1.0.0", "dist": dist}
        return json.dumps(
            {"name": name, "versions": {"1.0.0": version}, "dist-tags": {"latest": "1.0.0"}}
        ).encode()
