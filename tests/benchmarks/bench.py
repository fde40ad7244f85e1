"""Speed, measured: every topic is a module beside this one whose `measure(rounds)` gives its rows.

make bench                                all topics, 10 rounds each: two hours
make bench ARGS="--only efficientnet"     one topic (several: repeat it)
make bench ARGS="--rounds 3"              a quick look; intervals are then wide
"""

from __future__ import annotations

import argparse
import importlib

from tests.benchmarks.report import Row, describe_machine, publish, read_rows
from tests.mesh.running import ROOT

# In the order in which they run; those that need a calm machine most come first.
TOPICS = (
    "efficientnet",
    "tiny",
    "swap",
    "overload",
    "deadlines",
    "batching",
    "invariance",
    "soak",
    "isolation",
    "capacity",
    "balancing",
)
REPORT = ROOT / ".bench/bench.json"


def main() -> None:
    """Measures the topics, prints the table and writes `.bench/bench.json`; rows of topics left out are kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=TOPICS, help="measure this topic only")
    parser.add_argument(
        "--rounds", type=int, default=10, help="rounds; the interval of a median needs 6 (default 10)"
    )
    arguments = parser.parse_args()
    topics = arguments.only or TOPICS
    rows: dict[str, list[Row]] = read_rows(REPORT, TOPICS) if arguments.only else {}
    for topic in topics:
        rows[topic] = importlib.import_module(f"tests.benchmarks.{topic}").measure(arguments.rounds)
        # After each topic, so that a run that is cut short keeps what it has.
        known = [row for name in TOPICS for row in rows.get(name, [])]
        publish(known, REPORT, f"{topic}, {arguments.rounds} rounds, {describe_machine()}", show=rows[topic])


if __name__ == "__main__":
    main()
