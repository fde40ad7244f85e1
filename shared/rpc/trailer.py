"""What a reply says in its trailers of how it came about: seconds in the queue and in the model, batch size,
model.
"""

from __future__ import annotations

from typing import Any

QUEUE_TRAILER = "x-sensorium-queue"
COMPUTE_TRAILER = "x-sensorium-compute"
BATCH_SIZE_TRAILER = "x-sensorium-batch-size"
MODEL_VERSION_TRAILER = "x-sensorium-model-version"


def set_timing(context: Any, queue_s: float, compute_s: float, batch_size: int, model_version: str) -> None:
    """Sets the timing trailers of a call, on either front; trailers that were set before stay.

    queue_s, compute_s: seconds, sent with six decimals. model_version: `<model>@<version>` or `<version>`,
    ASCII.
    """
    before = context.trailing_metadata()
    trailers = (
        (QUEUE_TRAILER, f"{queue_s:.6f}"),
        (COMPUTE_TRAILER, f"{compute_s:.6f}"),
        (BATCH_SIZE_TRAILER, str(batch_size)),
        (MODEL_VERSION_TRAILER, model_version),
    )
    context.set_trailing_metadata((*before, *trailers) if before else trailers)
