"""The page about sizing: its formula, its tables and its example, and what the manifests take from them."""

from __future__ import annotations

import heapq
import random
import statistics
from pathlib import Path

import pytest
import yaml
from sensorium.nlp.v1 import nlp_service_pb2
from sensorium.speech.v1 import speech_service_pb2
from sensorium.vision.v1 import vision_service_pb2

from tests.benchmarks import sizing
from tests.benchmarks.queueing import Demand, find_waiting_share, mix, predict

ROOT = Path(__file__).parents[2]
BASE = ROOT / "deploy/kubernetes/base"
TEXT = sizing.PAGE.read_text()


# The formula


def test_erlang_c_is_that_of_its_tables() -> None:
    assert find_waiting_share(1, 0.7) == pytest.approx(
        0.7
    )  # one server: the share of the time that it is busy
    assert find_waiting_share(2, 1.0) == pytest.approx(1 / 3)
    assert find_waiting_share(10, 8.0) == pytest.approx(0.409, abs=0.001)
    assert find_waiting_share(1000, 950.0) < 1  # no overflow


def test_the_wait_for_one_replica_is_pollaczek_and_khinchines() -> None:
    exponential = predict(1, Demand(per_s=7, service_s=0.1, scv=1))
    assert exponential.mean_s == pytest.approx(0.7 * 0.1 / 0.3)
    assert predict(1, Demand(7, 0.1, 0)).mean_s == pytest.approx(exponential.mean_s / 2)


def test_a_load_that_has_no_end_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"more than 2, the work, got 2"):
        predict(2, Demand(per_s=20, service_s=0.1, scv=0))


def test_a_mix_varies_as_its_calls_do() -> None:
    assert mix({"a": 3.0}, {"a": 0.1}).scv == pytest.approx(0, abs=1e-9)
    both = mix({"a": 1.0, "b": 1.0}, {"a": 0.1, "b": 0.3})
    assert (both.per_s, both.service_s) == (2.0, pytest.approx(0.2))
    assert both.scv == pytest.approx(0.25)


def simulate(replicas: int, work: float, services_s: tuple[float, ...], calls: int = 60_000) -> list[float]:
    """How long each of so many random calls waited in one queue before the replicas; services: drawn alike."""
    rng = random.Random(5)
    free_s, now_s, waited_s = [0.0] * replicas, 0.0, []
    rate = work / statistics.fmean(services_s)
    for _ in range(calls):
        now_s += rng.expovariate(rate)
        began_s = max(now_s, heapq.heappop(free_s))
        waited_s.append(began_s - now_s)
        heapq.heappush(free_s, began_s + rng.choice(services_s))
    return sorted(waited_s)


@pytest.mark.parametrize("services_s", [(1.0,), (0.5, 1.5), (0.2, 0.2, 2.6)])
@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("busy", [0.7, 0.85])
def test_the_formula_is_close_to_what_a_simulation_gives(
    replicas: int, busy: float, services_s: tuple[float, ...]
) -> None:
    waited_s = simulate(replicas, busy * replicas, services_s)
    per_s = busy * replicas / statistics.fmean(services_s)
    scv = statistics.pvariance(services_s) / statistics.fmean(services_s) ** 2
    waiting = predict(replicas, Demand(per_s, statistics.fmean(services_s), scv))
    assert waiting.mean_s == pytest.approx(statistics.fmean(waited_s), rel=0.2)
    assert waiting.quantile_s(0.95) == pytest.approx(waited_s[int(0.95 * len(waited_s))], rel=0.25)


# The page


def test_every_typed_rpc_is_in_the_table() -> None:
    measured = {name.partition("/")[0] for name in sizing.read_costs(TEXT)}
    typed = {
        method.name
        for module, service in (
            (vision_service_pb2, "VisionService"),
            (nlp_service_pb2, "NlpService"),
            (speech_service_pb2, "SpeechService"),
        )
        for method in module.DESCRIPTOR.services_by_name[service].methods
    }
    assert measured == typed


def test_the_worked_example_is_what_the_calculator_says() -> None:
    assert sizing.EXAMPLE in TEXT
    assert sizing.read_part(TEXT, "example") == sizing.show_example(TEXT)


def test_twice_the_load_takes_twice_the_work() -> None:
    costs = sizing.read_costs(TEXT)
    one, two = (sizing.size({"ClassifyImage": rate}, costs, 0.7) for rate in (40.0, 80.0))
    assert two.work == pytest.approx(2 * one.work)
    assert two.replicas >= one.replicas
    assert one.work / one.replicas <= 0.7


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("Classify=3", "Classify: expected one of ClassifyImage"),
        ("ClassifyImage", "expected NAME=CALLS_PER_SECOND"),
        ("ClassifyImage=0", "expected NAME=CALLS_PER_SECOND"),
    ],
)
def test_a_load_that_cannot_be_read_is_named(said: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        sizing.read_calls(said, sizing.read_costs(TEXT))


# The manifests


def read_mib(quantity: str) -> float:
    return float(quantity[:-2]) * {"Mi": 1, "Gi": 1024}[quantity[-2:]]


def test_replicas_ask_for_the_memory_that_they_took() -> None:
    (container,) = yaml.safe_load((BASE / "replicas/deployment.yaml").read_text())["spec"]["template"][
        "spec"
    ]["containers"]
    lines = sizing.read_part(TEXT, "memory").splitlines()[2:]
    peaks = [float(line.strip("| ").split("|")[2].strip().removesuffix(" MB")) for line in lines]
    assert len(peaks) == 3
    assert max(peaks) * 1e6 / 2**20 <= read_mib(container["resources"]["requests"]["memory"])


@pytest.mark.parametrize("part", ["replicas", "gateway"])
def test_autoscaling_aims_at_what_the_page_reckons_with(part: str) -> None:
    autoscaler = yaml.safe_load((BASE / part / "autoscaler.yaml").read_text())
    (metric,) = autoscaler["spec"]["metrics"]
    assert metric["resource"]["target"]["averageUtilization"] == sizing.UTILIZATION * 100
