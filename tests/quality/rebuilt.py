"""Making a shipped model again from its recorded command: the same metrics within what it states, in how long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.benchmarks.report import Row
from tests.quality.place import Place
from tests.quality.rows import exact, not_measured
from tests.quality.shipped import list_shipped, rebuild

# A default recipe trains in ten minutes on two cores; asked of one, which does not depend on who else uses the machine.
_LONGEST_S = 600.0


def measure(seeds: Sequence[int], place: Place) -> Iterator[Row]:
    """Per model: how far each metric with a stated tolerance is off, whether the graph has the same bytes, the seconds."""
    for shipped in list_shipped(place):
        before, made = shipped.artifact.manifest, shipped.artifact.manifest.made
        again = rebuild(shipped, place)
        after = again.artifact.manifest
        how = f"`{made.command}`, made at {made.commit[:12]}"
        for metric, allowed in made.tolerance.items():
            was, now = before.quality.metrics[metric].value, after.quality.metrics[metric].value
            yield exact(
                f"rebuilt/{shipped.title}/{metric}",
                abs(now - was),
                "difference",
                f"{how}; shipped {was:.4f}, made again {now:.4f}",
                at_most=allowed,
            )
        same = all(
            after.files[graph.file].sha256 == before.files[graph.file].sha256
            for graph in before.graphs.values()
            if graph.file in after.files
        )
        yield exact(f"rebuilt/{shipped.title}/same_graph", float(same), "1 = same bytes", how)
        yield exact(
            f"rebuilt/{shipped.title}/duration",
            again.duration_s,
            "s",
            f"{how}; by the clock of a shared machine",
        )
        told = (
            f"{how}; CPU time, loading, evaluation and export included: what it takes on one core of its own"
        )
        if again.cpu_s is None:
            yield not_measured(
                f"rebuilt/{shipped.title}/cpu", "s", f"<= {_LONGEST_S:g}", "the run was kept without it"
            )
        else:
            yield exact(f"rebuilt/{shipped.title}/cpu", again.cpu_s, "s", told, at_most=_LONGEST_S)
