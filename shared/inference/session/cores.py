"""The cores of a replica, which the runs of all its models share.

Here: how many runs of how many threads may go on at a time. Not here: the threads themselves, which are ONNX Runtime's
(`session.py`), nor how many a model's runs have (`shared.inference.settings`).

Each session keeps a pool of its own. Four models under mixed load on two cores (EfficientNet, MiniLM, a voice
detector and a text reader; medians of 3 to 5 interleaved rounds), CPU seconds for the same work:

| | 4 callers | 32 callers | their p99 | 60 % load |
|---|---|---|---|---|
| pools of 2 threads, nobody waits | 0.88 | 0.81 | 245 to 370 ms | 0.89 |
| pools of 2 threads, this budget | 0.92 | 0.86 | 170 to 180 ms | 0.90 |
| pools of 1 thread, nobody waits | 0.80 | 0.80 | 300 to 370 ms | 0.81 |
| pools of 1 thread, this budget | 0.78 | 0.73 | 170 to 180 ms | 0.80 |
| one global pool of 2 threads | 0.99 | - | - | 1.34 |

ONNX Runtime's global pool spins, and from Python cannot be told not to. A budget that counts every thread leaves cores
idle, since a run of two threads keeps 1.6 of them busy: 20 % of the throughput was gone.
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

    A run of one thread takes a core. One of more threads takes half of their number, for they seldom all work at a
    time; where they do, the kernel shares the cores out.

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
        self._free = cores  # below 0 while some run out of patience
        self._waiting: deque[_Waiting] = deque()

    @property
    def free(self) -> int:
        """Cores that nobody has taken; below 0 while somebody runs who would not wait any longer."""
        return self._free

    @property
    def waiting(self) -> int:
        """Runs that wait for cores."""
        return len(self._waiting)

    def use(self, threads: int) -> CoreUse:
        """What a run of so many threads takes, never more than all cores; may be used again and again."""
        # Kept, since runs come by the thousand; two threads that make the same one at once make equals.
        found = self._uses.get(threads)
        if found is None:
            found = self._uses[threads] = CoreUse(self, min(max((threads + 1) // 2, 1), self.cores))
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
