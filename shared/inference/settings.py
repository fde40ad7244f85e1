"""Settings of a service's models: where they lie, what runs them, how calls are put together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from shared.inference.isolation.settings import IsolationSettings
from shared.inference.manifest import Precision
from shared.inference.session.providers import complete_name
from shared.inference.signature import SignatureSettings
from shared.inference.tuning.values import TunedValues
from shared.settings import Settings, state_dir


def count_cores() -> int:
    """Cores that this process may use: its affinity mask, and the quota of its control group where it has one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            # A fraction of a core is one thread: two would wait for each other's share.
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no control group of version 2 here: the mask is all there is to know
    return cores


class ModelSettings(Settings):
    """How a model is opened, run and batched; frozen.

    Said for a service it holds for all its models, said for a model (`models`) it holds for that one.
    """

    providers: tuple[str, ...] = Field(default=("auto",), min_length=1)
    """ONNX Runtime's execution providers, best first, e.g. `tensorrt,cuda,openvino,cpu`; those that are missing, fail here
    or can run nothing of a graph are passed over. `auto` is CUDA where this build of ONNX Runtime has it, else the CPU."""
    precision: Precision | None = None
    """`fp32`, `fp16` or `int8`, for artifacts that carry their graphs in several; unset, or where there is none of it, a
    graph's own file runs."""
    version: str = Field(default="latest", min_length=1)
    """Version that answers where a request names none: `latest` is the newest that is ready, any other is that one only."""
    ready_versions: int = Field(default=1, ge=1, le=16)
    """How many of the newest versions are kept ready, for requests that name one. Each takes memory of its own."""
    instances: int = Field(default=1, ge=1, le=64)
    """Runs of each graph at the same time. They share one session, so that weights lie in memory once."""
    intra_op_threads: int = Field(default_factory=count_cores, ge=1, le=1024)
    """Threads of each run; default: the replica's `cores`."""
    spinning: bool = False
    """Whether idle intra-op threads wait in a loop instead of sleeping. Good only for a replica that has the machine
    for itself: beside other work on two cores, EfficientNet with two threads took 15 ms of CPU instead of 9, and at 20
    calls a second 39 instead of 10."""
    max_batch_size: int | None = Field(default=None, ge=1)
    """Most rows of a batch, where it is to be fewer than the artifact allows."""
    max_queue_delay_s: float = Field(default=0.0, ge=0, le=10)
    """How long an idle session waits for a batch to fill; 0 = never, batches form while the one before runs."""
    max_queue_size: int = Field(default=512, ge=1)
    """Most items that wait before one graph; the next is refused."""
    target_batch_s: float = Field(default=0.01, gt=0)
    """A batch that is large enough for its graph (measured at load) takes in no rows that would make it run
    longer. On a CPU larger batches cost more per row, and all of their callers wait.
    """
    express_run_s: float = Field(default=50e-6, ge=0, le=1e-3)
    """Graphs whose runs are this short, measured at load, run on the event loop itself; 0 = none. Handing a call to a thread
    and back costs about 80 µs of CPU when calls come one by one, and meanwhile nothing else is answered: a thousand such
    runs a second delay other calls by 50 µs at most."""
    cache_bytes: int = Field(default=0, ge=0)
    """Most bytes of answers that are kept for equal requests; 0 = none. All callers share them, and by measuring time one
    can find out what another has asked."""

    @field_validator("providers")
    @classmethod
    def _complete_providers(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(complete_name(name) for name in names)


class InferenceSettings(ModelSettings):
    """How a service's models are found and loaded, and what holds for each where it has nothing of its own; frozen."""

    models_dir: Path | None = None
    """Folder of `<model>/<version>`; unset = `<state>/models/<service>`."""
    models: dict[str, ModelSettings] = Field(default_factory=dict)
    """Settings of single models by name without the service, e.g. `{"minilm": {"instances": 2}}`."""
    cores: int = Field(default_factory=count_cores, ge=1, le=4096)
    """Cores that the runs of all models share. Replicas x cores should be the machine's cores."""
    signature: SignatureSettings = SignatureSettings()
    """Whose signatures are trusted, and whether a model must have one."""
    golden_check: bool = True
    """Whether a model must reproduce its golden outputs before it serves."""
    load_threads: int = Field(default=2, ge=1, le=64)
    """Models that are loaded at the same time."""
    retire_timeout_s: float = Field(default=300.0, ge=0, le=3600)
    """How long calls that began on a version may go on on it after another has taken over; the default is the longest
    deadline of a call."""
    watch_s: float = Field(default=2.0, ge=0, le=3600)
    """How often the models' folder is looked at for versions that came or went; 0 = never."""
    isolation: IsolationSettings = IsolationSettings()
    """When a run counts as hanging, and how long what a model has done counts against it."""
    graph_cache_bytes: int = Field(default=4_000_000_000, ge=0)
    """Most bytes of optimised graphs that are kept in the state folder, for all services; 0 = none."""

    def find_models_dir(self, service: str) -> Path:
        """Folder of a service's models: as set, else in the state folder."""
        return self.models_dir or state_dir() / "models" / service

    def for_model(self, name: str, tuned: TunedValues | None = None) -> ModelSettings:
        """What holds for one model: said for it > said for the service > measured by tuning > default.

        `name` is without the service.
        """
        values = {"intra_op_threads": self.cores}
        if tuned is not None:
            values |= tuned.fit(self.cores).model_dump()
        return ModelSettings.model_validate(values | self._get_own(name))

    def list_tuned(self, name: str, tuned: TunedValues) -> dict[str, float]:
        """Those of a model's tuned values that hold, since nobody has said another."""
        own = self._get_own(name)
        return {key: value for key, value in tuned.fit(self.cores).model_dump().items() if key not in own}

    def _get_own(self, name: str) -> dict[str, Any]:
        return _get_said(self) | _get_said(self.models.get(name, ModelSettings()))


def _get_said(settings: ModelSettings) -> dict[str, Any]:
    """The fields of a model that somebody has set."""
    return {
        name: getattr(settings, name)
        for name in settings.model_fields_set & ModelSettings.model_fields.keys()
    }
