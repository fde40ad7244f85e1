"""One run of a training script: its folder, device, threads, precision and place among its processes.

`launch` is what a script's last line calls; `start` makes the `Run`. What is computed is elsewhere: `distributed` adds up
over processes, `fit` loops over epochs.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import itertools
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self, TextIO, TypeVar

import torch

from shared.inference.settings import count_cores
from shared.training import position
from shared.training.errors import DataError, TrainingError
from shared.training.precision import AUTOCAST
from shared.training.progress import Lines
from shared.training.randomness import seed_everything

Item = TypeVar("Item")

# Longest wait for the other processes: the first one may be writing a checkpoint or evaluating.
_PATIENCE = timedelta(minutes=30)
# What a disk, a quota or a limit says when there is no more room.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# What lies in the way of a file, or must not be touched: the user's to mend.
_IN_THE_WAY = (PermissionError, IsADirectoryError, NotADirectoryError)
# torch dies of a number of threads that the system does not give.
_MOST_THREADS = 1024
_NO_MEMORY = "there is not enough memory; make the network narrower or --batch-size smaller"
# Numbers of the process groups that this process has been in.
_GROUPS = itertools.count()


class Stopped(KeyboardInterrupt):
    """SIGTERM, taken as Ctrl-C is: whatever was begun is left as the last checkpoint has it."""


@dataclass
class Run:
    """What a script knows of where it runs; made by `start`, a context that leaves no process group, lock or handler.

    recipe: the name of what is trained; arguments: as parsed; out: this run's folder, which is there; device; rank and
    world: this process's number and how many there are; scaler: of fp16's gradients, off otherwise.
    """

    recipe: str
    arguments: argparse.Namespace
    out: Path
    device: torch.device
    rank: int
    world: int
    scaler: torch.amp.GradScaler
    _lines: Lines
    _lock: TextIO | None
    _owns_group: bool
    _before: contextlib.ExitStack

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and lines."""
        return self.rank == 0

    @property
    def seed(self) -> int:
        """Of weights, order and augmentation."""
        return int(self.arguments.seed)

    @property
    def precision(self) -> str:
        """fp32, bf16, fp16 or fp64."""
        return str(self.arguments.precision)

    def dataset(self, name: str) -> Path:
        """The folder of a dataset that `sensorium data pull` unpacks.

        Raises:
            DataError: it is not there.
        """
        folder = Path(self.arguments.data) / name
        if not folder.is_dir():
            raise DataError(
                folder,
                expected=f"the dataset `{name}`",
                got="no such folder",
                advice=f"run `sensorium data pull {name}`",
            )
        return folder

    def say(self, text: str) -> None:
        """Prints a line, once for all processes."""
        self._lines.say(text)

    def track(self, items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
        """Yields the items with a progress bar on a terminal, without one elsewhere."""
        return self._lines.track(items, label, total)

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a forward pass and its loss: matrix products in half the width, where --precision says so."""
        if self.precision not in AUTOCAST:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, AUTOCAST[self.precision])

    def close(self, *, ended_well: bool = False) -> None:
        """Leaves the process group, unlocks the folder, leaves signals and torch as they were before.

        ended_well: this process is done, so are or will be the others, and they leave together.
        """
        position.move(None)
        self._before.close()
        if self._owns_group and torch.distributed.is_initialized():
            if ended_well:
                # Without it one of eight runs of two processes was aborted after all was done ("terminate called without
                # an active exception"). A release's other processes wait here for the first.
                torch.distributed.barrier()
            torch.distributed.destroy_process_group()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self.say(f"stopped; what was reached is kept in {self.out}: the same command goes on from there")
        self.close(ended_well=kind is None)


def start(arguments: argparse.Namespace, recipe: str, *, again: bool = False) -> Run:
    """Begins a run of `recipe` (a short name: letters, digits, dashes) with arguments of `make_parser`.

    Seeds all generators, sets threads, joins the process group that `torchrun` announces in the environment (nccl on
    CUDA, else gloo), makes and locks the folder. `arguments` comes to hold the folder and the device that were chosen.
    again: after a run of the same command, whose first line said what this one's would.

    Raises:
        TrainingError: a place among processes that is no number, no such device, a precision it lacks, the folder cannot be
        made or another training uses it.
    """
    rank, world = _read_place("RANK", 0), _read_place("WORLD_SIZE", 1)
    local_rank, local_world = _read_place("LOCAL_RANK", 0), _read_place("LOCAL_WORLD_SIZE", 1)
    device = _choose_device(arguments.device, local_rank)
    _set_threads(arguments.threads, local_world)
    seed_everything(arguments.seed)
    if arguments.out is None:
        arguments.out = Path("runs") / recipe
    lock = _open_folder(arguments.out) if rank == 0 else None
    owns_group = world > 1 and not torch.distributed.is_initialized()
    if owns_group:
        _join_processes("nccl" if device.type == "cuda" else "gloo")
    run = Run(
        recipe=recipe,
        arguments=arguments,
        out=arguments.out,
        device=device,
        rank=rank,
        world=world,
        scaler=torch.amp.GradScaler(device.type, enabled=arguments.precision == "fp16"),
        _lines=Lines(silent=rank != 0),
        _lock=lock,
        _owns_group=owns_group,
        _before=_change_process(),
    )
    if not again:
        run.say(
            f"{recipe}: seed {arguments.seed}, {device}, {arguments.precision}, "
            f"{_count(world, 'process', 'processes')} of {_count(torch.get_num_threads(), 'thread', 'threads')}, "
            f"in {run.out}"
        )
        if run.precision in AUTOCAST and device.type == "cpu":
            run.say(f"{run.precision} is for GPUs: most processors are far slower with it than with fp32")
    return run


def _read_place(name: str, default: int) -> int:
    """A process's number, or how many there are, as `torchrun` announces them."""
    text = os.environ.get(name, str(default))
    if not text.isascii() or not text.isdigit():
        raise TrainingError(f"{name}: expected a whole number, as torchrun sets it, got {text!r}; unset it")
    return int(text)


def _join_processes(backend: str) -> None:
    """Begins a process group, under keys of its own in the store by which its processes find each other.

    The store outlives a group: of a release's second training, a process that came first would find the address at which
    another was reached in the first training, and fail to connect.
    """
    store, rank, world = next(torch.distributed.rendezvous("env://", timeout=_PATIENCE))
    own = torch.distributed.PrefixStore(f"group-{next(_GROUPS)}", store)
    torch.distributed.init_process_group(backend, store=own, rank=rank, world_size=world, timeout=_PATIENCE)


def launch(
    main: Callable[[argparse.Namespace], object],
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Parses the command line, runs `main` and exits: 0, 1 with one line for a TrainingError, a full disk, a file that can
    not be touched or want of memory, 130 after Ctrl-C, 143 after SIGTERM; anything else is a defect and shows its traceback.
    """
    arguments = parser.parse_args(argv)
    try:
        main(arguments)
    except TrainingError as error:
        _fail(str(error))
    except torch.OutOfMemoryError as error:
        _fail(f"the accelerator is out of memory; lower --batch-size ({str(error).splitlines()[0]})")
    except BrokenPipeError:
        # A new stdout, because its flush at exit would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail("nobody reads the output any more; the same command goes on from the last checkpoint")
    except MemoryError:
        _fail(_NO_MEMORY)
    except RuntimeError as error:
        # The processor's allocator says it so, and in no other way.
        if "can't allocate memory" not in str(error):
            raise
        _fail(_NO_MEMORY)
    except _IN_THE_WAY as error:
        _fail(f"{error.filename}: cannot be written or read: {error.strerror}")
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _fail(
            f"{error.filename or 'a file'}: cannot be written: {error.strerror}; make room and run the same command again"
        )
    except Stopped:
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # All is written and the others have left: one of seventy such runs was still aborted in some native thread while
        # the interpreter was being taken down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    sys.exit(0)


def _fail(text: str) -> NoReturn:
    print(f"error: {text}", file=sys.stderr, flush=True)
    sys.exit(1)


def describe_command(module: str, argv: Sequence[str] | None = None) -> str:
    """The command as provenance records it: `python -m services.nlp.training.train_x --epochs 3`.

    module: the script's name for `python -m`; argv: its arguments, default: this process's.
    """
    return shlex.join(["python", "-m", module, *(sys.argv[1:] if argv is None else argv)])


def _choose_device(wanted: str, local_rank: int) -> torch.device:
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if local_rank >= count:
        raise TrainingError(
            f"--device {wanted}: expected a CUDA device for each of this machine's processes, got {count} "
            f"for process {local_rank}; start fewer or use --device cpu"
        )
    # cuBLAS repeats its results only with a workspace of fixed size.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def _set_threads(wanted: int, local_world: int) -> None:
    if wanted > _MOST_THREADS:
        raise TrainingError(f"--threads: expected at most {_MOST_THREADS}, got {wanted}")
    if wanted:
        torch.set_num_threads(wanted)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, count_cores() // local_world))


def _open_folder(folder: Path) -> TextIO:
    """Makes the folder and holds it for as long as this process lives, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a")
    except OSError as error:
        raise TrainingError(
            f"--out {folder}: expected a folder to write to, got: {error.strerror}"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise TrainingError(
            f"--out {folder}: another training is using it; wait for it or name another folder"
        ) from None
    return lock


def _change_process() -> contextlib.ExitStack:
    """What a training changes in its process; closing the stack changes it back."""
    before = contextlib.ExitStack()
    # Same numbers again on the same machine; operations that cannot promise it say so once.
    before.callback(
        torch.use_deterministic_algorithms,
        torch.are_deterministic_algorithms_enabled(),
        warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    before.callback(
        setattr,
        torch.utils.deterministic,
        "fill_uninitialized_memory",
        torch.utils.deterministic.fill_uninitialized_memory,
    )
    torch.utils.deterministic.fill_uninitialized_memory = False
    # Only the main thread may take signals; others leave them.
    if threading.current_thread() is threading.main_thread():
        before.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _stop))
    return before


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
