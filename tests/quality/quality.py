"""What trained models are worth: every topic is a module beside this one whose `measure(seeds, place)` gives its rows.

make quality                                  all topics, 5 seeds each: hours; what is interrupted goes on where it stopped
make quality ARGS="--only sentiment"          one topic (several: repeat it)
make quality ARGS="--seeds 1 --only digits"   a quick look; intervals are then wide
make quality ARGS="--fresh"                   train again what earlier measurements kept in runs/quality
"""

from __future__ import annotations

import argparse
import importlib

from shared.training.provenance import ROOT
from tests.benchmarks.report import Row, describe_machine, publish, read_rows
from tests.quality.place import Place

# The models first, then what concerns all that are shipped.
TOPICS = (
    "sentiment",
    "topics",
    "spam",
    "language",
    "digits",
    "images",
    "commands",
    "sounds",
    "rebuilt",
    "exported",
    "compressed",
    "served",
    "distributed",
    "explain",
)
REPORT = ROOT / ".bench/quality.json"


def main() -> None:
    """Measures the topics, prints the tables and writes `.bench/quality.json`; rows of topics left out are kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=TOPICS, help="measure this topic only")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each recipe (default 5)")
    parser.add_argument("--fresh", action="store_true", help="train again what was kept")
    arguments = parser.parse_args()
    rows = read_rows(REPORT, TOPICS)
    place = Place.usual(fresh=arguments.fresh)
    for topic in arguments.only or TOPICS:
        measured = importlib.import_module(f"tests.quality.{topic}").measure(range(arguments.seeds), place)
        rows[topic] = [check_name(topic, row) for row in measured]
        # After each topic, so that a run that is cut short keeps what it has.
        known = [row for name in TOPICS for row in rows.get(name, [])]
        title = f"{topic}, {arguments.seeds} seeds, {describe_machine()}"
        publish(known, REPORT, title, show=rows[topic], middle="value")


def check_name(topic: str, row: Row) -> Row:
    """A row's name begins with its topic, by which it is kept."""
    if not row.name.startswith(f"{topic}/"):
        raise ValueError(f"row {row.name!r}: expected a name that begins with {topic + '/'!r}")
    return row


if __name__ == "__main__":
    main()
