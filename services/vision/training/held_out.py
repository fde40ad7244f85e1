"""What is known of a network by the pictures held out: how sure its accuracy is, its temperature; and the pictures
themselves, kept for `sensorium models compare` and `promote`.

Not here: the format of what is kept (`shared.inference.heldout`), further statistics (`shared.training.evaluation`).
"""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from services.vision.training.data.pictures import Pictures
from shared.inference.heldout import heldout_folder, write_heldout
from shared.inference.manifest import HeldOut
from shared.settings import state_dir
from shared.training.evaluation.calibration import fit_temperature
from shared.training.evaluation.interval import wilson
from shared.training.run import Run

# Of fewer, a single mistake more or less moves the temperature by more than it corrects.
LEAST_TO_CALIBRATE = 50
# Of fewer, the interval of the accuracy is ten points wide and more.
LEAST_TO_JUDGE = 100


def find_temperature(run: Run, logits: NDArray[Any], truth: NDArray[Any]) -> float:
    """The temperature fitted on what was tuned on, 1 where that are too few pictures; says so then."""
    if len(truth) < LEAST_TO_CALIBRATE:
        run.say(
            f"no temperature is fitted: {len(truth)} pictures to tune on, {LEAST_TO_CALIBRATE} are needed; "
            "scores stay as the network gives them"
        )
        return 1.0
    return fit_temperature(logits, truth)


def say_accuracy(run: Run, right: int, items: int, more: str = "") -> None:
    """Prints the share that is right with its interval, and a warning where that says little."""
    share = wilson(right, items)
    run.say(f"held out: {share.value:.4f} of {items} right (95 %: {share.low:.3f} to {share.high:.3f}){more}")
    if items < LEAST_TO_JUDGE:
        run.say(
            f"warning: of {items} pictures the accuracy is not known better than from {share.low:.2f} to "
            f"{share.high:.2f}: hold out {LEAST_TO_JUDGE} or more"
        )


def say_next(run: Run, name: str, folder: Path) -> None:
    """Prints where the artifact lies and the command that makes it serve; `name` as `sensorium models` takes it."""
    run.say(
        f"not served yet: {folder}; to serve it: sensorium models promote {name} {shlex.quote(str(folder))}"
    )


def keep_held_out(run: Run, pictures: Pictures, model: str, name: str) -> HeldOut:
    """Writes the held-out pictures, as large as the network sees them, to where versions of `model` are compared.

    name: of the set. With --limit none is written, for a part must not take the place of the whole.

    Raises:
        OSError: the set cannot be written.
    """
    if run.arguments.limit is not None:
        run.say("--limit: the held-out pictures are not kept, so no version can be compared on them")
        return HeldOut(name=f"a part of {name}", sha256=pictures.sha256, items=len(pictures))
    items = []
    for index, (pixels, label) in enumerate(zip(pictures.pixels, pictures.labels, strict=True)):
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "PNG")
        items.append(
            {"file": f"{index:04d}.png", "content": content.getvalue(), "label": pictures.classes[label]}
        )
    sha256 = write_heldout(state_dir(), "vision", model, items, name=name, rpc="ClassifyImage")
    run.say(
        f"{len(items)} held-out pictures, on which versions are compared: {heldout_folder(state_dir(), 'vision', model)}"
    )
    return HeldOut(name=name, sha256=sha256, items=len(items))
