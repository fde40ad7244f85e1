"""What is counted of calls, as Prometheus reads it."""

from __future__ import annotations

import urllib.request

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from shared.telemetry.metrics import BUCKETS_S, CallMetrics, make_registry, serve_metrics


def collect(metrics: CallMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = generate_latest(make_registry(metrics)).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_calls_are_counted_timed_and_put_into_buckets() -> None:
    metrics = CallMetrics()
    method = metrics.bind("a.B", "C")
    method.started = 4
    for seconds, code in ((0.0004, "OK"), (0.001, "OK"), (100.0, "DEADLINE_EXCEEDED")):
        method.finish(code, seconds)
    samples = collect(metrics)
    names = (("method", "C"), ("service", "a.B"))
    assert samples["sensorium_rpc_calls_total", (("code", "OK"), *names)] == 2
    assert samples["sensorium_rpc_calls_total", (("code", "DEADLINE_EXCEEDED"), *names)] == 1
    assert samples["sensorium_rpc_call_seconds_count", names] == 3
    assert abs(samples["sensorium_rpc_call_seconds_sum", names] - 100.0014) < 1e-9
    assert samples["sensorium_rpc_call_seconds_bucket", (("le", "0.0005"), *names)] == 1
    assert samples["sensorium_rpc_call_seconds_bucket", (("le", "0.001"), *names)] == 2
    assert samples["sensorium_rpc_call_seconds_bucket", (("le", str(BUCKETS_S[-1])), *names)] == 2
    assert samples["sensorium_rpc_call_seconds_bucket", (("le", "+Inf"), *names)] == 3
    assert samples["sensorium_rpc_inflight_calls", names] == 1


def test_a_method_is_bound_once() -> None:
    metrics = CallMetrics()
    assert metrics.bind("a.B", "C") is metrics.bind("a.B", "C")
    assert metrics.bind("a.B", "C") is not metrics.bind("a.B", "D")


def test_they_are_served_over_http_until_closed() -> None:
    metrics = CallMetrics()
    metrics.bind("a.B", "C").finish("OK", 0.1)
    server = serve_metrics("127.0.0.1", 0, make_registry(metrics))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as reply:
            text = reply.read().decode()
    finally:
        server.close()
    assert 'sensorium_rpc_calls_total{code="OK",method="C",service="a.B"} 1.0' in text
    assert "process_cpu_seconds_total" in text
