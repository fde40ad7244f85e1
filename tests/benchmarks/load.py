"""Load from h2load, a native HTTP/2 generator, and the CPU time of processes as the kernel counts it."""

from __future__ import annotations

import os
import re
import resource
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def require_h2load() -> None:
    """Exits with one line when the generator is missing."""
    if shutil.which("h2load") is None:
        raise SystemExit("h2load is missing: install nghttp2-client (Debian) or nghttp2 (macOS)")


def write_body(message: bytes, path: Path) -> Path:
    """Writes one uncompressed gRPC frame around an encoded message."""
    path.write_bytes(struct.pack(">BI", 0, len(message)) + message)
    return path


def process_cpu_s(pid: int) -> float:
    """User and system time of a process and all its threads, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


@dataclass(frozen=True)
class Load:
    """What one run of the generator did."""

    requests: int
    wall_s: float
    generator_cpu_s: float

    @property
    def per_s(self) -> float:
        """Answered requests per second."""
        return self.requests / self.wall_s


def run_load(
    address: str,
    method: str,
    body: Path,
    *,
    callers: int,
    requests: int,
    token: str | None = None,
    content_type: str = "application/grpc",
) -> Load:
    """Sends `requests` unary calls over `callers` connections, one call in flight each; all must be answered."""
    headers = [f"content-type: {content_type}", "te: trailers"]
    if token is not None:
        headers.append(f"authorization: Bearer {token}")
    command = ["h2load", "-t", "1", "-c", str(callers), "-m", "1", "-n", str(requests), "-d", str(body)]
    for header in headers:
        command += ["-H", header]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*command, f"http://{address}/{method}"], check=True, capture_output=True, text=True, timeout=300
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    finished = re.search(r"finished in ([\d.]+)(us|ms|s|m)\b", done.stdout)
    answered = re.search(r"status codes: (\d+) 2xx", done.stdout)
    if finished is None or answered is None or int(answered[1]) != requests:
        raise SystemExit(f"h2load lost calls:\n{done.stdout}")
    wall_s = float(finished[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[finished[2]]
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Load(requests, wall_s, cpu_s)
