"""What a training has reached, kept in checkpoints and gone back to; whose checkpoint it is, and that all processes hear of
what the first one, which alone reads and writes, could not do. The loop over epochs is `fit`'s.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from shared.training import checkpoint
from shared.training.arguments import CHANGEABLE
from shared.training.curves import FILE as CURVES
from shared.training.curves import write_curves
from shared.training.distributed import broadcast_object
from shared.training.errors import CheckpointError
from shared.training.run import Run

# Of a checkpoint, beside its format.
_PARTS = {"identity", "progress", "model", "optimizer", "scaler"}


@dataclass
class Progress:
    """What has been reached: finished epochs with their rows, the best of them, and how many were to come of it."""

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best: dict[str, float] = field(default_factory=dict)
    epochs: int = 0

    @property
    def epoch(self) -> int:
        """Epochs that are finished."""
        return len(self.history)

    def has_stalled(self, patience: int) -> bool:
        """Whether the last `patience` epochs (0 = any number) brought no better one."""
        return 0 < patience <= self.epoch - self.best_epoch


def describe_identity(run: Run, metric: str, better: str, data_digest: str) -> dict[str, Any]:
    """What a checkpoint must have in common with the training that goes on from it."""
    return {
        "recipe": run.recipe,
        "arguments": _describe_arguments(run.arguments),
        "data_digest": data_digest,
        "metric": [metric, better],
    }


def resume(
    run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, identity: Mapping[str, Any]
) -> Progress:
    """Goes back to the last checkpoint, if there is one and it is wanted."""
    found: tuple[bytes, str] | None = None
    with _agreeing(run) as problems:
        if run.is_main:
            try:
                checkpoint.clear(run.out, checkpoints=run.arguments.fresh)
                found = checkpoint.read(run.out)
            except (CheckpointError, OSError) as error:
                problems.append(str(error))
    found = broadcast_object(run, found)
    if found is None:
        return Progress()
    content, remark = found
    state = checkpoint.decode(content)
    if missing := sorted(_PARTS - state.keys()):
        raise CheckpointError(_describe_other(run, f"something else (no {', '.join(missing)})"))
    _check_identity(run, json.loads(state["identity"]), identity)
    _load_weights(run, model, state)
    try:
        optimizer.load_state_dict(state["optimizer"])
    except ValueError as error:
        raise CheckpointError(_describe_other(run, f"another optimizer ({error})")) from error
    run.scaler.load_state_dict(state["scaler"])
    progress = Progress(**json.loads(state["progress"]))
    if remark:
        run.say(remark)
    run.say(f"going on after epoch {progress.epoch}, from {run.out}")
    return progress


def keep(
    run: Run,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    identity: Mapping[str, Any],
    progress: Progress,
    *,
    best: bool,
    save_frozen: bool,
) -> None:
    """Writes checkpoint and curves, in the first process.

    Raises:
        CheckpointError: in all processes, when the first one cannot.
    """
    with _agreeing(run) as problems:
        if run.is_main:
            left_out = (
                set()
                if save_frozen
                else {name for name, weights in model.named_parameters() if not weights.requires_grad}
            )
            state = {
                "identity": json.dumps(identity),
                "progress": json.dumps(vars(progress)),
                "model": {name: value for name, value in model.state_dict().items() if name not in left_out},
                "optimizer": optimizer.state_dict(),
                "scaler": run.scaler.state_dict(),
            }
            try:
                checkpoint.save(run.out, state, best=best)
                write_curves(run.out / CURVES, progress.history)
            except CheckpointError as error:
                problems.append(str(error))
            except OSError as error:
                problems.append(
                    f"{run.out / CURVES}: cannot be written: {error.strerror}; make room and run again"
                )


@contextlib.contextmanager
def _agreeing(run: Run) -> Iterator[list[str]]:
    """What the first process puts into the list fails all of them, so that none waits for one that has gone."""
    problems: list[str] = []
    yield problems
    agreed = broadcast_object(run, problems)
    if agreed:
        raise CheckpointError("; ".join(agreed))


def load_best(run: Run, model: nn.Module) -> None:
    """Gives the model the best epoch's weights.

    Raises:
        CheckpointError: its checkpoint is missing or damaged.
    """
    content = b""
    with _agreeing(run) as problems:
        if run.is_main:
            try:
                content = checkpoint.read_best(run.out)
            except CheckpointError as error:
                problems.append(str(error))
    _load_weights(run, model, checkpoint.decode(broadcast_object(run, content)))


def _load_weights(run: Run, model: nn.Module, state: Mapping[str, Any]) -> None:
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    try:
        missing, unexpected = model.load_state_dict(state["model"], strict=False)
    except RuntimeError as error:
        raise CheckpointError(_describe_other(run, f"a model of other shapes ({error})")) from error
    if unexpected or set(missing) - frozen:
        names = sorted({*unexpected, *missing} - frozen)
        raise CheckpointError(_describe_other(run, f"a model with other weights ({', '.join(names[:5])})"))


def _describe_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    kept = {name: value for name, value in vars(arguments).items() if name not in CHANGEABLE}
    return json.loads(json.dumps(kept, default=str))


def _check_identity(run: Run, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    if found["recipe"] != wanted["recipe"]:
        raise CheckpointError(_describe_other(run, f"the recipe {found['recipe']}"))
    theirs, ours = found["arguments"], wanted["arguments"]
    differing = [
        f"--{name.replace('_', '-')} {theirs.get(name)} (now {ours.get(name)})"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
    ]
    if differing:
        raise CheckpointError(_describe_other(run, f"a training with {', '.join(differing)}"))
    if found["data_digest"] != wanted["data_digest"]:
        raise CheckpointError(_describe_other(run, "a training on other data"))
    if found["metric"] != json.loads(json.dumps(wanted["metric"])):
        raise CheckpointError(_describe_other(run, f"a training for {' '.join(found['metric'])}"))


def _describe_other(run: Run, what: str) -> str:
    return f"{run.out} holds the checkpoint of {what}; repeat that command, choose another --out, or forget it with --fresh"
