"""The tables of deploy/sizing.md out of the last rows of `capacity`, and how many replicas a load needs by those tables.

python -m tests.benchmarks.sizing --write                                    puts the last figures into the page
python -m tests.benchmarks.sizing --calls "ClassifyImage=50,EmbedText=20"    replicas for so many calls a second
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks import balancing
from tests.benchmarks.bench import REPORT
from tests.benchmarks.capacity import BREAK, LOADS, TRIED, USUAL
from tests.benchmarks.queueing import Demand, Waiting, mix, predict
from tests.benchmarks.report import Row, read_rows
from tests.mesh.running import ROOT

PAGE = ROOT / "deploy/sizing.md"
# Of its core; deploy/kubernetes scales at the same.
UTILIZATION = 0.7
# The worked example of the page.
EXAMPLE = "ClassifyImage/12MP=50,EmbedText=20,Transcribe/30s=3"
# The gateway draws some replicas at random, and each gateway knows its own calls only: calls wait as if there were no more.
_AS_IF = 2
_SIZE = re.compile(r"([\d.]+) (B|kB)$")
_SERVICES = {
    "vision": ("ClassifyImage", "EmbedImage", "DetectObjects", "DetectFaces", "ReadText", "ExplainImage"),
    "nlp": ("EmbedText", "ClassifyText", "DetectLanguage", "ExplainText"),
    "speech": ("Transcribe", "DetectSpeech", "EmbedSpeaker", "RecognizeCommand"),
}
_CALLS = (
    "| call | request | CPU, 1 caller | CPU, 8 callers | calls/s, 8 callers | alone | p50, p95, p99 at 70 % |",
    "|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Cost:
    """What one call takes, out of a line of the table."""

    core_s: float
    """Of a replica, at one caller: with others beside it, small calls cost less."""
    alone_s: float
    size_bytes: float

    @classmethod
    def read(cls, line: str) -> tuple[str, Cost]:
        """The call's name and its cost.

        Raises:
            ValueError: a line of another table.
        """
        name, request, core, _, _, alone, _ = (cell.strip() for cell in line.strip("|\n ").split("|"))
        found = _SIZE.search(request)
        if found is None:
            raise ValueError(f"{line}: expected a request that ends with its size")
        size = float(found[1]) * (1000 if found[2] == "kB" else 1)
        return name, cls(_read_ms(core), _read_ms(alone), size)


def _read_ms(cell: str) -> float:
    return float(cell.removesuffix(" ms")) / 1e3


def find_service(call: str) -> str:
    """The service of a call's name in the table.

    Raises:
        ValueError: no rpc is called so.
    """
    rpc = call.partition("/")[0]
    for service, rpcs in _SERVICES.items():
        if rpc in rpcs:
            return service
    raise ValueError(
        f"{call}: expected one of {', '.join(rpc for rpcs in _SERVICES.values() for rpc in rpcs)}"
    )


def read_part(text: str, name: str) -> str:
    """What stands between the page's marks of that name."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    return text.partition(begin)[2].partition(end)[0]


def replace_part(text: str, name: str, part: str) -> str:
    """The page with another text between the marks."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    head, _, rest = text.partition(begin)
    return f"{head}{begin}{part}{end}{rest.partition(end)[2]}"


def read_costs(text: str) -> dict[str, Cost]:
    """The page's table of calls."""
    return dict(Cost.read(line) for line in read_part(text, "calls").splitlines()[len(_CALLS) :])


def read_gateway(text: str) -> tuple[float, float]:
    """Core-seconds of the gateway for a call and for a megabyte."""
    cells = [line.strip("| ").split("|") for line in read_part(text, "gateway").splitlines()]
    found = {cell[0].strip(): cell[1].strip() for cell in cells if len(cell) > 1}
    return _read_ms(found["a call"]), _read_ms(found["a megabyte"])


# Tables


def format_ms(value: float) -> str:
    """Three digits, as far as they say something."""
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def tabulate_calls(rows: Mapping[str, Row]) -> Iterator[str]:
    """One line a call."""
    yield from _CALLS
    names = [
        name.removeprefix("capacity/").removesuffix("/cpu_8") for name in rows if name.endswith("/cpu_8")
    ]
    for name in names:
        row = {key: rows[f"capacity/{name}/{key}"] for key in ("cpu_1", "cpu_8", "throughput", "alone")}
        value = {key: it.value or 0.0 for key, it in row.items()}
        quantiles = [rows[f"capacity/{name}/p{share}_at_{USUAL:g}"].value for share in (50, 95, 99)]
        open_loop = ", ".join("–" if it is None else format_ms(it) for it in quantiles)
        cells = [
            name,
            row["cpu_1"].how.partition(BREAK)[0],
            *(format_ms(value[key]) for key in ("cpu_1", "cpu_8")),
            f"{value['throughput']:.3g}" if value["throughput"] < 1000 else f"{value['throughput']:.0f}",
            format_ms(value["alone"]),
            "–" if quantiles[0] is None else open_loop,
        ]
        yield f"| {' | '.join(cells)} |"


def tabulate_formula(rows: Mapping[str, Row]) -> Iterator[str]:
    """Measured p95, and what it is of the formula's, by load."""
    yield "| call | " + " | ".join(f"p95 at {100 * load:.0f} %; over the formula's" for load in LOADS) + " |"
    yield "|---|" + "---|" * len(LOADS)
    for name in TRIED:
        cells = []
        for load in LOADS:
            measured = rows[f"capacity/{name}/p95_at_{load:g}"].value
            over = rows.get(f"capacity/{name}/p95_at_{load:g}_over_formula")
            known = measured is not None and over is not None and over.value is not None
            cells.append(f"{format_ms(measured)}; {over.value:.2f}" if known else "–")  # type: ignore[union-attr, arg-type]
        yield f"| {name} | {' | '.join(cells)} |"


def tabulate_memory(rows: Mapping[str, Row]) -> Iterator[str]:
    """Replicas' memory."""
    yield "| replica of | all its models loaded | peak in these measurements |"
    yield "|---|---|---|"
    for service in _SERVICES:
        sizes = (rows[f"capacity/memory/{service}/{when}"].value or 0.0 for when in ("loaded", "peak"))
        yield f"| {service} | " + " | ".join(f"{size:.0f} MB" for size in sizes) + " |"


def tabulate_gateway(rows: Mapping[str, Row]) -> Iterator[str]:
    """What the gateway takes."""
    value = {name: row.value or 0.0 for name, row in rows.items()}
    yield "| the gateway takes for | |"
    yield "|---|---|"
    yield f"| a call | {format_ms(value['capacity/gateway/per call'])} |"
    yield f"| a megabyte | {format_ms(value['capacity/gateway/per MB'])} |"
    for name, it in value.items():
        if name.startswith("capacity/gateway/") and name.endswith("/cpu"):
            call = name.removeprefix("capacity/gateway/").removesuffix("/cpu")
            over = call.removeprefix("json/")
            yield f"| {over}{' as HTTP/JSON' if over != call else ''} | {format_ms(it)} |"
    for part in ("Envoy", "control plane"):
        cores, size = (value[f"capacity/gateway/{part}/{what}"] for what in ("idle", "memory"))
        yield f"| {part}, no calls | {cores:.3f} cores, {size:.0f} MB |"
    yield f"| an idle connection | {value['capacity/gateway/connection']:.3g} kB |"


def tabulate_balancing(rows: Mapping[str, Row]) -> Iterator[str]:
    """Waiting behind gateways, and what one queue would make of it."""
    yield (
        "| replicas, gateways | "
        + " | ".join(f"{100 * load:.0f} % busy; one queue" for load in balancing.LOADS)
        + " |"
    )
    yield "|---|" + "---|" * len(balancing.LOADS)
    for replicas, gateways in balancing.SHAPES:
        names = [f"balancing/{replicas}x{gateways}/p95_at_{load:g}" for load in balancing.LOADS]
        cells = [
            "–"
            if name not in rows
            else f"{rows[name].value or 0.0:.1f}; {rows[f'{name}_of_one_queue'].value or 0.0:.1f}"
            for name in names
        ]
        yield f"| {replicas}, {gateways} | {' | '.join(cells)} |"


def tabulate_machine(rows: Mapping[str, Row]) -> Iterator[str]:
    """Where and beside what it was measured."""
    load = rows["capacity/load before"]
    yield f"Measured on {load.how}; {load.value or 0.0:.1f} processes wanted to run beside it when it began."


def write_page(rows: Sequence[Row]) -> None:
    """Puts the tables into the page, and the example that follows from them."""
    by_name = {row.name: row for row in rows}
    text = PAGE.read_text()
    for name, table in (
        ("calls", tabulate_calls),
        ("formula", tabulate_formula),
        ("memory", tabulate_memory),
        ("gateway", tabulate_gateway),
        ("balancing", tabulate_balancing),
        ("machine", tabulate_machine),
    ):
        text = replace_part(text, name, "".join(f"{line}\n" for line in table(by_name)))
    PAGE.write_text(replace_part(text, "example", show_example(text)))


def show_example(text: str) -> str:
    """What the page's own example answers."""
    asked = read_calls(EXAMPLE, read_costs(text))
    return "".join(f"    {line}\n" for line in describe(asked, text, UTILIZATION))


# Replicas


@dataclass(frozen=True)
class Size:
    """What a service needs: replicas of one core, how busy they are, and how calls wait."""

    replicas: int
    work: float
    waiting: Waiting


def size(calls: Mapping[str, float], costs: Mapping[str, Cost], utilization: float) -> Size:
    """The fewest replicas that are not busier than `utilization`; calls: of one service, per second."""
    demand = mix(calls, {name: costs[name].core_s for name in calls})
    replicas = max(1, math.ceil(demand.work / utilization))
    queue = min(replicas, _AS_IF)
    one = Demand(demand.per_s * queue / replicas, demand.service_s, demand.scv)
    return Size(replicas, demand.work, predict(queue, one))


def read_calls(said: str, costs: Mapping[str, Cost]) -> dict[str, dict[str, float]]:
    """Calls a second by service, out of `NAME=RATE,…`.

    Raises:
        ValueError: a name that the table has not, or a rate that is no positive number.
    """
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for pair in said.split(","):
        name, _, rate = (part.strip() for part in pair.partition("="))
        if name not in costs:
            raise ValueError(f"{name}: expected one of {', '.join(costs)}")
        if not rate.replace(".", "", 1).isdigit() or not float(rate):
            raise ValueError(f"{pair}: expected NAME=CALLS_PER_SECOND, a number above 0")
        found[find_service(name)][name] = float(rate)
    return found


def describe(asked: Mapping[str, Mapping[str, float]], text: str, utilization: float) -> Iterator[str]:
    """The answer, line by line."""
    costs = read_costs(text)
    for service, calls in asked.items():
        it = size(calls, costs, utilization)
        p95 = ", ".join(
            f"{name} {format_ms(1e3 * (costs[name].alone_s + it.waiting.quantile_s(0.95)))}" for name in calls
        )
        replicas = f"{it.replicas} replica{'' if it.replicas == 1 else 's'} of one core"
        yield f"{service}: {replicas}, {100 * it.work / it.replicas:.0f} % busy ({it.work:.2f} cores of work); p95: {p95}"
    per_call_s, per_mb_s = read_gateway(text)
    rates = [(rate, costs[name].size_bytes) for calls in asked.values() for name, rate in calls.items()]
    work = sum(rate * (per_call_s + size_bytes / 1e6 * per_mb_s) for rate, size_bytes in rates)
    traffic = sum(rate * size_bytes for rate, size_bytes in rates) / 1e6
    yield f"gateway: {work:.2f} cores of work for {traffic:.1f} MB/s"


def main() -> None:
    """Writes the page, or answers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="put the last figures into deploy/sizing.md")
    parser.add_argument("--calls", metavar="NAME=RATE,…", help="calls a second, names as in the table")
    parser.add_argument("--utilization", type=float, default=UTILIZATION, help="how busy replicas may be")
    arguments = parser.parse_args()
    if not (arguments.write or arguments.calls):
        parser.error("expected --calls or --write")
    if arguments.write:
        kept = read_rows(REPORT, ["capacity", "balancing"])
        rows = [row for topic in kept.values() for row in topic]
        if not kept.get("capacity"):
            raise SystemExit(f'{REPORT} has no rows of capacity: run make bench ARGS="--only capacity" first')
        write_page(rows)
    if arguments.calls:
        text = PAGE.read_text()
        try:
            asked = read_calls(arguments.calls, read_costs(text))
        except ValueError as error:
            raise SystemExit(str(error)) from error
        sys.stdout.write("".join(f"{line}\n" for line in describe(asked, text, arguments.utilization)))


if __name__ == "__main__":
    main()
