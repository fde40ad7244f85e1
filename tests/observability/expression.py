"""Every PromQL expression of this repository, and the metrics that it asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "deploy" / "observability" / "dashboards"
ALERTS = ROOT / "deploy" / "observability" / "alerts.yaml"
RUNBOOKS = ROOT / "deploy" / "runbooks.md"
SCALERS = ROOT / "deploy" / "kubernetes" / "components" / "queue-autoscaling" / "scalers.yaml"
# What Grafana would put in, for a Prometheus that asks every second.
_VARIABLES = {"$__rate_interval": "10s", "$namespace": ".*"}
_WORDS = frozenset(
    ["by", "on", "without", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset"]
)
# What Prometheus itself tells of a target.
PROMETHEUS_OWN = frozenset({"up"})
_COMPARISON = re.compile(r"\s(?:==|!=|<=|>=|<|>)\s+[\d.]+$")


@dataclass(frozen=True)
class Expression:
    """place: where it stands, for messages."""

    place: str
    text: str

    @property
    def metrics(self) -> frozenset[str]:
        """Names of the metrics in it."""
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", self.text)
        bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
        bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
        names = re.findall(r"[a-zA-Z_:][\w:]*(?!\w*\s*\()", bare)
        return frozenset(
            name for name in names if name not in _WORDS and not re.search(rf"\b{name}\s*\(", bare)
        )

    @property
    def measured(self) -> str:
        """Without the last comparison: what an alert looks at, whether it fires or not."""
        return _COMPARISON.sub("", self.text)


def read_dashboards() -> Iterator[Expression]:
    """Those of all panels, with variables as for a test."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                text = target["expr"]
                for name, value in _VARIABLES.items():
                    text = text.replace(name, value)
                yield Expression(f"{path.stem}: {panel['title']}: {target['legendFormat']}", text)


def read_alerts() -> Iterator[Expression]:
    """Those of all rules."""
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield Expression(rule["alert"], rule["expr"])


def read_scalers() -> Iterator[Expression]:
    """Those by which replicas are scaled."""
    for scaler in yaml.safe_load_all(SCALERS.read_text()):
        for trigger in scaler["spec"]["triggers"]:
            if trigger["type"] == "prometheus":
                yield Expression(f"{scaler['metadata']['name']} scales", trigger["metadata"]["query"])


def read_runbooks() -> Iterator[Expression]:
    """The metrics that runbooks name, each as an expression."""
    for name in sorted(set(re.findall(r"\b(?:sensorium|envoy|process)_\w+", RUNBOOKS.read_text()))):
        yield Expression(f"runbooks: {name}", name)


def read_all() -> list[Expression]:
    """All of them."""
    return [*read_dashboards(), *read_alerts(), *read_scalers()]
