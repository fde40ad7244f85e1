"""How many clips are in work: a decoded clip takes memory until its call ends, so the number has a bound."""

from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import ResourceExhausted

# About what one short clip takes; a caller who comes back finds a place then.
_RETRY_S = 1.0


class Admission:
    """Counts the calls at work; belongs to one event loop."""

    def __init__(self, max_clips: int) -> None:
        self._max_clips = max_clips
        self._in_work = 0

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Hold a place while the block runs.

        Raises:
            ResourceExhausted: all places are taken; nothing waits here.
        """
        if self._in_work >= self._max_clips:
            raise ResourceExhausted("clips in work", limit=self._max_clips, retry_after_s=_RETRY_S)
        self._in_work += 1
        try:
            yield
        finally:
            self._in_work -= 1
