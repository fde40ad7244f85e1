"""The loop over epochs: train, evaluate, keep a checkpoint, stop when it gets no better; killed and started again, it goes
on from the last checkpoint and gives the curve it would have given.

Everything random is seeded anew at the start of each epoch, so a checkpoint needs no generator's state.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from shared.training import position
from shared.training.distributed import broadcast_object, check_agreement
from shared.training.errors import DivergedError, TrainingError
from shared.training.precision import computing_in
from shared.training.randomness import seed_everything
from shared.training.run import Run
from shared.training.schedule import Schedule
from shared.training.state import Progress, describe_identity, keep, load_best, resume


@dataclass
class Fitted:
    """What came of a training; the model holds the best epoch's weights.

    best_epoch: from 1; best: what `evaluate` returned then; history: one row an epoch, as in curves.csv: `epoch`,
    `learning_rate` (at the epoch's end), `train_…`, `valid_…`, `duration_s`; resumed_epochs: how many of them were there
    already.
    """

    best_epoch: int
    best: dict[str, float]
    history: list[dict[str, float]]
    stopped_early: bool
    resumed_epochs: int

    @property
    def duration_s(self) -> float:
        """Seconds of all epochs together, those before an interruption included."""
        return sum(row["duration_s"] for row in self.history)


def fit(
    run: Run,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    train_one_epoch: Callable[[int], Mapping[str, float]],
    evaluate: Callable[[], Mapping[str, float]],
    epochs: int,
    patience: int,
    metric: str,
    better: Literal["higher", "lower"] = "higher",
    schedule: Schedule | None = None,
    save_frozen: bool = True,
    data_digest: str = "",
) -> Fitted:
    """Trains until `epochs` are done or `patience` epochs (0 = any number) have brought no better `metric`.

    train_one_epoch: given the epoch's number, from 1, takes its steps and returns measurements such as `{"loss": …}`; it
    calls `model.train()` itself. evaluate: measures the model, which is in evaluation mode, without gradients; what it
    returns holds `metric`; every process must call for the same. schedule: factor of the learning rate by the share of
    the training that is done, before every step. save_frozen: False leaves weights that do not learn out of the
    checkpoints, for a large pinned backbone that is there anyway. data_digest: of what is trained on, where the script
    knows one; a checkpoint of other data is not gone on from.

    Raises:
        DivergedError: something is no longer a finite number; the last good checkpoint is kept.
        CheckpointError: a checkpoint cannot be written, or the one found belongs to another training.
    """
    if better not in ("higher", "lower"):
        raise ValueError(f"better: expected higher or lower, got {better!r}")
    identity = describe_identity(run, metric, better, data_digest)
    with computing_in(run.precision, model):
        progress = resume(run, model, optimizer, identity)
        resumed = kept = progress.epoch
        if resumed and progress.epochs != epochs and resumed >= epochs:
            done = "1 epoch is" if resumed == 1 else f"{resumed} epochs are"
            run.say(f"--epochs was {progress.epochs}, is {epochs}: {done} done already and none is added")
        elif resumed and progress.epochs != epochs and schedule is not None:
            run.say(
                f"--epochs was {progress.epochs}, is {epochs}: the learning rate goes on as one of {epochs} epochs would"
            )
        progress.epochs = epochs
        with _scheduled(optimizer, schedule, epochs):
            while progress.epoch < epochs and not progress.has_stalled(patience):
                epoch = progress.epoch + 1
                try:
                    row, measured = _run_epoch(run, model, optimizer, train_one_epoch, evaluate, epoch)
                    _check_finite(row, model)
                except DivergedError as error:
                    raise DivergedError(_describe_divergence(run, error, kept)) from error
                check_agreement(run, model)
                if metric not in measured:
                    raise ValueError(
                        f"metric: expected one of {sorted(measured)}, which evaluate returned, got {metric!r}"
                    )
                is_best = not progress.best or _is_better(measured[metric], progress.best[metric], better)
                progress.history.append(row)
                if is_best:
                    progress.best_epoch, progress.best = epoch, measured
                ends = epoch >= epochs or progress.has_stalled(patience)
                if is_best or ends or epoch % run.arguments.checkpoint_every == 0:
                    keep(run, model, optimizer, identity, progress, best=is_best, save_frozen=save_frozen)
                    kept = epoch
                run.say(_describe_epoch(row, epochs, is_best))
        stopped_early = progress.epoch < epochs
        if progress.best_epoch != progress.epoch or resumed == progress.epoch:
            load_best(run, model)
    # A script that trains a second network draws its weights now: the same ones whether epochs were trained or resumed.
    seed_everything(run.seed, progress.epoch, 1)
    run.say(_describe_end(run, progress, metric, stopped_early))
    return Fitted(progress.best_epoch, progress.best, progress.history, stopped_early, resumed)


def _run_epoch(
    run: Run,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train_one_epoch: Callable[[int], Mapping[str, float]],
    evaluate: Callable[[], Mapping[str, float]],
    epoch: int,
) -> tuple[dict[str, float], dict[str, float]]:
    """The epoch's row and what `evaluate` returned, the first process's in all of them."""
    began = time.monotonic()
    seed_everything(run.seed, epoch)
    trained = train_one_epoch(epoch)
    model.eval()
    with torch.no_grad():
        measured = {name: float(value) for name, value in evaluate().items()}
    row: dict[str, float] = {"epoch": epoch, "learning_rate": float(optimizer.param_groups[0]["lr"])}
    row |= {f"train_{name}": float(value) for name, value in trained.items()}
    row |= {f"valid_{name}": value for name, value in measured.items()}
    row["duration_s"] = round(time.monotonic() - began, 3)
    # Decisions that follow must be the same everywhere.
    agreed = broadcast_object(run, (row, measured))
    return agreed[0], agreed[1]


def _check_finite(row: Mapping[str, float], model: nn.Module) -> None:
    for name, value in row.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} became {value} in epoch {row['epoch']}")
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not bool(torch.isfinite(parameter).all()):
            raise DivergedError(f"the weights {name} are no longer finite after epoch {row['epoch']}")


def _is_better(value: float, best: float, better: str) -> bool:
    return value > best if better == "higher" else value < best


@contextlib.contextmanager
def _scheduled(optimizer: torch.optim.Optimizer, schedule: Schedule | None, epochs: int) -> Iterator[None]:
    """Sets the learning rates before every step, from where in the training the step is."""
    if schedule is None:
        yield
        return
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])

    def set_rates(optimizer: torch.optim.Optimizer, arguments: object, keywords: object) -> None:
        here = position.current()
        if here is not None:
            factor = schedule(here.passes / epochs)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor

    hook = optimizer.register_step_pre_hook(set_rates)
    try:
        yield
    finally:
        hook.remove()


def _describe_divergence(run: Run, error: TrainingError, kept: int) -> str:
    where = f"the checkpoint of epoch {kept} is kept in {run.out}" if kept else "no epoch was finished"
    return (
        f"{run.recipe}: {error}; {where}. Start again with --fresh and a --learning-rate below "
        f"{run.arguments.learning_rate:g}"
    )


def _describe_epoch(row: Mapping[str, float], epochs: int, best: bool) -> str:
    values = "  ".join(
        f"{name} {value:.4g}" for name, value in row.items() if name not in ("epoch", "duration_s")
    )
    return f"epoch {row['epoch']}/{epochs}  {values}  {row['duration_s']:.1f} s{'  best' if best else ''}"


def _describe_end(run: Run, progress: Progress, metric: str, stopped_early: bool) -> str:
    why = f"no better one in {run.arguments.patience} epochs" if stopped_early else "all epochs done"
    return f"{why}: best {metric} {progress.best[metric]:.4f} in epoch {progress.best_epoch}; checkpoints in {run.out}"
