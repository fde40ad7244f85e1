"""What is freed leaves the process. In a process of its own: the setting cannot be taken back."""

import os
import subprocess
import sys

import pytest

# Eight blocks of 8 MiB, a small one behind each that stays. The first pass is what teaches glibc to keep them.
SCRIPT = """
import sys
from shared.rpc.allocator import free_large_blocks_at_once
from tests.support.memory import resident_bytes

able = free_large_blocks_at_once()
kept = []
for _ in range(2):
    before = resident_bytes()
    large = []
    for _ in range(8):
        large.append(bytearray(b"x") * (8 << 20))
        kept.append(bytearray(100_000))
    large.clear()
sys.stdout.write(f"{able} {(resident_bytes() - before) >> 20}")
"""


def measure(**environ: str) -> tuple[bool, int]:
    """Whether it was set, and the MiB that stayed of 64 that were freed."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    able, kept = done.stdout.split()
    return able == "True", int(kept)


def test_large_blocks_go_back_when_they_are_freed() -> None:
    able, kept = measure()
    assert able
    assert kept < 8


@pytest.mark.parametrize(
    "environ",
    [{"MALLOC_MMAP_THRESHOLD_": "33554432"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=33554432"}],
)
def test_who_sets_the_threshold_himself_is_obeyed(environ: dict[str, str]) -> None:
    able, _ = measure(**environ)
    assert not able
