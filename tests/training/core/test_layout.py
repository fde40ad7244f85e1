"""Channels last where it is safe: a network that torch would crash on is left as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.place import ROOT

# A step back through a shortcut of a residual network, some hundred times: without the exception it dies of a signal.
PROGRAM = """
import sys
import torch
from torch import nn
from shared.training.arguments import make_parser
from shared.training.layout import channels_last
from shared.training.run import start

parser = make_parser(None, epochs=1, batch_size=1, learning_rate=1)
said = ["--out", sys.argv[1], "--device", "cpu", "--threads", sys.argv[2]]
with start(parser.parse_args(said), "test") as run:
    network = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 16, int(sys.argv[3]), 2))
    last = channels_last(network, run)[0].weight.is_contiguous(memory_format=torch.channels_last)
    for number in range(300):
        network(torch.randn(31 + number % 2, 8, 20, 50)).square().sum().backward()
print(last)
"""


@pytest.mark.parametrize(
    ("threads", "size", "last"), [(1, 1, True), (2, 1, False), (1, 3, True), (2, 3, True)]
)
def test_it_is_used_where_torch_lives_through_it(tmp_path: Path, threads: int, size: int, last: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(threads), str(size)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(last)
