"""What carries the calls out."""

from abc import ABC, abstractmethod
from typing import TypeVar

from sensorium.calls.plan import Plan
from sensorium.connection import Priority

T = TypeVar("T")


class AsyncRunner(ABC):
    """Sends the requests of a plan and gives what it makes of the replies."""

    @abstractmethod
    async def _run(self, plan: Plan[T], timeout_s: float | None, priority: Priority | None = None) -> T:
        """None means the client's own. Raises SensoriumError."""
