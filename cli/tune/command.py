"""`sensorium models tune`: its options, and what they lead to.

Not here: which model (`subject.py`), measuring (`run.py`), what was found before (`kept.py`).
"""

from __future__ import annotations

import re
from typing import Annotated

import typer

from cli.failure import CommandError
from cli.options import Json, StateDir, state_folder

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_ROUNDS, _WINDOW_S = 4, 0.5


def tune(
    name: Annotated[
        str, typer.Argument(help="A pulled model, e.g. `minilm` or `nlp/minilm`.", show_default=False)
    ],
    latency_target: Annotated[
        str,
        typer.Option(
            "--latency-target",
            metavar="TIME",
            help="The 95th percentile that answers must keep while all instances are busy, e.g. 50ms.",
        ),
    ] = "50ms",
    cores: Annotated[
        int | None,
        typer.Option(
            min=1, max=4096, help="Cores that the model may use.  [default: all]", show_default=False
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often the best are measured.")] = _ROUNDS,
    window: Annotated[float, typer.Option(min=0.05, max=60, help="Seconds of one measurement.")] = _WINDOW_S,
    show: Annotated[
        bool, typer.Option("--show", help="Show what was found before; measure nothing.")
    ] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Forget what was found before.")] = False,
    json_lines: Json = False,
    state_dir: StateDir = None,
) -> None:
    """Measure batch size, threads and instances of a model on this machine, and keep the best for serving.

    The best has the most items a second of those that keep the latency target. Replicas use it from their next start
    on, unless their settings say otherwise; it holds for this version of the model, this CPU and this ONNX Runtime. An
    item is a row of the model's golden inputs; of a model with several graphs, one run of each. Takes a minute or two,
    for which the machine should have nothing else to do.
    """
    target_s = _parse_time(latency_target)
    if show and forget:
        raise CommandError("--show and --forget exclude each other", exit_code=2)
    # Imported here: ONNX Runtime and numpy take their time, and other commands do without.
    from cli.tune.kept import forget_all, show_all
    from cli.tune.run import measure_and_keep

    state = state_folder(state_dir)
    if show:
        show_all(name, state, json_lines)
    elif forget:
        forget_all(name, state, json_lines)
    else:
        measure_and_keep(
            name, state, json_lines, cores=cores, target_s=target_s, rounds=rounds, window_s=window
        )


def _parse_time(text: str) -> float:
    """`50ms` or `0.05s` as seconds; without a unit it could mean either."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s)", text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0 < seconds <= 60:
        raise CommandError(
            f"--latency-target: expected a time up to 60s with its unit, e.g. 50ms, got {text!r}", exit_code=2
        )
    return seconds
