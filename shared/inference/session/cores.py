"""The cores of a replica, which the runs of all its models share.

Here: who may use how many threads now. Not here: the threads themselves, which are ONNX Runtime's (`session.py`).
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType

# Longest wait for cores (seconds). A run that hangs, or one of many seconds, must not stop the other models: who has
# waited so long runs beside it, and the kernel shares the cores out.
_PATIENCE_S = 0.05


class CoreBudget:
    """So many cores, taken for a run and given back after it: `with budget.use(threads): session.run(…)`.

    Runs wait in the order in which they came, so that one of many threads is not overtaken for ever by those of
    one; none waits longer than `patience_s`. For any number of threads; free cores are taken in about 1 µs.
    """

    def __init__(self, cores: int, *, patience_s: float = _PATIENCE_S) -> None:
        """`cores` is how many threads may run at a time, at least 1."""
        if cores < 1:
            raise ValueError(f"cores: expected at least 1, got {cores}")
        self.cores = cores
        self._patience_s = patience_s
        self._uses: dict[int, CoreUse] = {}
        # What lies below is changed under the lock.
        self._lock = threading.Lock()
        self._free = cores  # below 0 while runs that ran out of patience share cores with others
        self._waiting: deque[_Waiting] = deque()

    @property
    def free(self) -> int:
        """Cores that nobody uses; below 0 while more threads run than there are cores."""
        return self._free

    @property
    def waiting(self) -> int:
        """Runs that wait for cores."""
        return len(self._waiting)

    def use(self, threads: int) -> CoreUse:
        """The cores for a run of so many threads, never more than there are; may be used again and again."""
        # Kept, since runs come by the thousand; two threads that make the same one at once make equals.
        found = self._uses.get(threads)
        if found is None:
            found = self._uses[threads] = CoreUse(self, min(max(threads, 1), self.cores))
        return found

    def take(self, cores: int) -> None:
        """Take cores, after those who came before; blocks up to the budget's patience."""
        with self._lock:
            if not self._waiting and self._free >= cores:
                self._free -= cores
                return
            waiting = _Waiting(cores)
            self._waiting.append(waiting)
        if waiting.turn.acquire(timeout=self._patience_s):
            return
        with self._lock:
            # Given just now, between the end of the wait and the lock: then they are already counted.
            if waiting.turn.acquire(blocking=False):
                return
            self._waiting.remove(waiting)
            self._free -= cores
            self._let_in()

    def give_back(self, cores: int) -> None:
        """Give cores back and let in who waits for them."""
        with self._lock:
            self._free += cores
            if self._waiting:
                self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._waiting[0].cores <= self._free:
            first = self._waiting.popleft()
            self._free -= first.cores
            first.turn.release()


class CoreUse:
    """Cores for one run at a time and thread; a context."""

    __slots__ = ("_budget", "_cores")

    def __init__(self, budget: CoreBudget, cores: int) -> None:
        self._budget = budget
        self._cores = cores

    def __enter__(self) -> None:
        self._budget.take(self._cores)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self._budget.give_back(self._cores)


class _Waiting:
    """One run that waits: how many cores it needs, and a lock that is opened when it has them."""

    __slots__ = ("cores", "turn")

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self.turn = threading.Lock()
        self.turn.acquire()
