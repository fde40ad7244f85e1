"""A real Prometheus, with the configuration of the compose file asked of processes on this machine."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.observability.expression import ALERTS, ROOT
from tests.observability.target import Target

CONFIG = ROOT / "deploy" / "compose" / "observability" / "prometheus.yaml"
START_S = 60.0
# The mesh's namespace, as the operator would say it.
NAMESPACE = "sensorium"


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of an answer of its API."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def query(self, expression: str) -> list[Any]:
        """The samples of an expression now."""
        found = self.get("query", query=expression)
        return [found["result"]] if found["resultType"] == "scalar" else list(found["result"])


def find(name: str) -> str:
    """A program of Debian's package `prometheus`."""
    path = shutil.which(name)
    assert path is not None, f"{name} is not there: install the package `prometheus`"
    return path


def write_config(folder: Path, targets: Sequence[Target]) -> Path:
    """The compose file's, but for who is found by name, and for how often they are asked."""
    config = yaml.safe_load(CONFIG.read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    for job in config["scrape_configs"]:
        del job["dns_sd_configs"]
        job.pop("relabel_configs", None)
        job["static_configs"] = [
            {"targets": [target.address], "labels": {"service": target.service, "namespace": NAMESPACE}}
            for target in targets
            if target.job == job["job_name"]
        ]
    shutil.copy(ALERTS, folder / "alerts.yaml")
    path = folder / "prometheus.yaml"
    path.write_text(json.dumps(config))
    return path


@contextlib.contextmanager
def prometheus(folder: Path, targets: Sequence[Target]) -> Iterator[Prometheus]:
    """One for the length of a `with` block."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [
        find("prometheus"),
        f"--config.file={write_config(folder, targets)}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline_s = time.monotonic() + START_S
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://{address}/-/ready", timeout=5).status_code == 200:
                    break
            said = (folder / "prometheus.log").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < deadline_s, said
            time.sleep(0.1)
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(30)
