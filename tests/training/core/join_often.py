"""A script that trains several times, as releases do: each run joins the others in a process group of its own.

torchrun --standalone --nproc-per-node 2 -m tests.training.core.join_often --out DIR
"""

from __future__ import annotations

import argparse

import torch

from shared.training.arguments import make_parser
from shared.training.run import launch, start

RUNS = 8


def main(arguments: argparse.Namespace) -> None:
    """Adds one number of each process up, in each run."""
    for number in range(RUNS):
        with start(arguments, "join", again=number > 0) as run:
            total = torch.tensor([1.0 + run.rank])
            torch.distributed.all_reduce(total)
            run.say(f"run {number}: {total.item():g}")


if __name__ == "__main__":
    launch(main, make_parser(__doc__, epochs=1, batch_size=1, learning_rate=1.0))
