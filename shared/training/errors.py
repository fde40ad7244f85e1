"""What can go wrong in a training that its user can act on: one readable text each, no stack.

    TrainingError               exit 1
    ├── DataError               a file or folder of the data is not what its reader expected
    ├── DivergedError           the loss or a weight is no longer a number
    └── CheckpointError         a checkpoint cannot be written, read or gone on from

Everything else that is raised is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

from pathlib import Path


class TrainingError(Exception):
    """Training cannot start or go on; the text says what to do."""


class DataError(TrainingError):
    """Data that cannot be trained on.

    path: the file or folder; expected and got: short noun phrases; advice: what to do, one clause.
    """

    def __init__(self, path: str | Path, *, expected: str, got: str, advice: str) -> None:
        self.path, self.expected, self.got, self.advice = Path(path), expected, got, advice
        super().__init__(f"{path}: expected {expected}, got {got}; {advice}")


class DivergedError(TrainingError):
    """The loss, a metric or a weight became infinite or not a number; the last good checkpoint is kept."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be written (the one before is kept), is damaged, or belongs to other arguments."""
