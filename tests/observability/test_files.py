"""Dashboards, alerts, runbooks and both ways to run Prometheus agree with each other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.control.metrics import NOT_PULLED
from tests.observability.expression import ALERTS, DASHBOARDS, ROOT, Expression, read_all, read_scalers
from tests.observability.expression import RUNBOOKS as RUNBOOKS_FILE

DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose" / "observability"
MONITORING = DEPLOY / "kubernetes" / "components" / "monitoring"
RUNBOOKS = RUNBOOKS_FILE.read_text()


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def anchors() -> Iterator[str]:
    """As GitHub and others make them of headings."""
    for heading in re.findall(r"^#+ (.*)$", RUNBOOKS, re.M):
        yield re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_what_is_rendered_is_as_its_sources_say() -> None:
    command = [sys.executable, str(DEPLOY / "observability" / "render.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_alert_has_a_runbook_and_a_severity() -> None:
    known = set(anchors())
    for rule in rules():
        file, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert file == "deploy/runbooks.md", rule["alert"]
        assert anchor in known, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]


def test_reasons_that_alerts_go_by_are_those_of_replicas() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "shared" / "inference").rglob("*.py"))
    found = {
        reason.removesuffix(".*")
        for rule in rules()
        for pattern in re.findall(r'reason[!=]~"([^"]*)"', rule["expr"])
        for reason in pattern.split("|")
    }
    assert NOT_PULLED in found
    for reason in found:
        assert re.search(f"[\"']{re.escape(reason)}", sources), reason


def test_the_alerts_of_a_runbook_exist() -> None:
    named = set(re.findall(r"^Alerts?: (.*)\.$", RUNBOOKS, re.M))
    found = {alert.strip(" `") for line in named for alert in line.split(",")}
    assert found == {rule["alert"] for rule in rules()}


def test_log_lines_of_runbooks_are_written_by_somebody() -> None:
    sources = "\n".join(
        path.read_text() for folder in ("gateway", "shared", "cli") for path in (ROOT / folder).rglob("*.py")
    )
    events = set(re.findall(r'"([A-Za-z][^"\n]* [^"\n]*)"', sources))
    # Of the system, and of Envoy.
    others = {
        "No space left on device",
        "Too many open files",
        "OTLP HTTP exporter received a non-success status code",
    }
    phrases = set(re.findall(r"`([A-Za-z][\w';,-]*(?: [\w';,-]+)+)`", RUNBOOKS)) - others
    commands = ("mesh ", "sensorium ", "kubectl ", "du ", "df ", "ss ", "ulimit ")
    named = {phrase for phrase in phrases if not phrase.startswith(commands)}
    assert len(named) > 20
    assert not {phrase for phrase in named if not any(phrase in event for event in events)}


def test_dashboards_are_told_apart() -> None:
    boards = [json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))]
    assert len({board["uid"] for board in boards}) == len(boards) == 3
    for board in boards:
        titles = [panel["title"] for panel in board["panels"]]
        assert len(set(titles)) == len(titles)
        for panel in board["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24


def test_dashboards_of_the_cluster_are_those_of_the_folder() -> None:
    kustomization = yaml.safe_load((DEPLOY / "observability" / "kustomization.yaml").read_text())
    files = [name for one in kustomization["configMapGenerator"] for name in one["files"]]
    assert sorted(files) == sorted(f"dashboards/{path.name}" for path in DASHBOARDS.glob("*.json"))


def test_both_ways_give_the_same_labels() -> None:
    composed = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())["scrape_configs"]
    jobs = {one["job_name"]: one.get("metrics_path", "/metrics") for one in composed}
    assert all(one["honor_labels"] for one in composed)
    watched = {}
    for monitor in yaml.safe_load_all((MONITORING / "monitors.yaml").read_text()):
        for endpoint in monitor["spec"]["endpoints"]:
            assert endpoint["honorLabels"]
            (job,) = (one["replacement"] for one in endpoint["relabelings"] if one["targetLabel"] == "job")
            watched[job] = endpoint.get("path", "/metrics")
            assert any(one["targetLabel"] == "service" for one in endpoint["relabelings"])
    assert (
        watched
        == jobs
        == {"replicas": "/metrics", "gateway": "/metrics", "gateway-control": "/metrics/control"}
    )


def test_only_prometheus_reaches_the_gateways_metrics() -> None:
    documents = list(yaml.safe_load_all((MONITORING / "gateway.yaml").read_text()))
    (policy,) = (one for one in documents if one["kind"] == "NetworkPolicy")
    (rule,) = policy["spec"]["ingress"]
    (source,) = rule["from"]
    assert source["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    assert source["namespaceSelector"]["matchLabels"]
    assert rule["ports"] == [{"port": "metrics"}]


def test_images_are_of_a_release() -> None:
    document = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    for name, service in document["services"].items():
        if service.get("profiles") == ["observability"]:
            assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"]), name


def test_nobody_knows_grafanas_password() -> None:
    document = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    environment = document["services"]["grafana"]["environment"]
    assert not [name for name in environment if "PASSWORD" in name and not name.endswith("__FILE")]
    file = document["secrets"]["grafana-password"]["file"]
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", str(Path("deploy/compose") / file)], cwd=ROOT, timeout=20
    )
    assert ignored.returncode == 0


@pytest.mark.parametrize(
    ("text", "metrics"),
    [
        ('sum by (a, b) (rate(one_total{c=~"x.*"}[5m])) / two > 0.5', {"one_total", "two"}),
        ('absent(up{job="gateway"} == 1)', {"up"}),
        ("histogram_quantile(0.9, sum by (le) (rate(x_bucket[1m]))) or vector(0)", {"x_bucket"}),
        ("a and on (instance, namespace) b == 1", {"a", "b"}),
    ],
)
def test_metrics_of_an_expression(text: str, metrics: set[str]) -> None:
    assert Expression("", text).metrics == metrics


def test_there_are_expressions_of_every_kind() -> None:
    assert len(read_all()) > 90
    assert len(list(read_scalers())) == 3
