"""The compose file and what it mounts agree with each other and with the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose"
DOCUMENT: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
# The first open-source nginx that looks up the name of an upstream again.
RESOLVES = (1, 27, 3)


def test_replicas_share_the_hosts_cores() -> None:
    """Each would take all of them for its runs, twice over."""
    for name in ("vision", "nlp", "speech"):
        cpus = DOCUMENT["services"][name]["deploy"]["resources"]["limits"]["cpus"]
        # Whole ones: what is left of a fraction gives a run no thread.
        assert re.fullmatch(r"\$\{SENSORIUM_REPLICA_CORES:-\d+\}", cpus), name


def test_tls_finds_a_gateway_that_was_replaced() -> None:
    tls = DOCUMENT["services"]["tls"]
    found = re.fullmatch(r"nginxinc/nginx-unprivileged:(\d+)\.(\d+)(?:\.(\d+))?-alpine", tls["image"])
    assert found
    assert tuple(int(number or 0) for number in found.groups()) >= RESOLVES
    text = (COMPOSE / DOCUMENT["configs"]["tls"]["file"]).read_text()
    upstream = re.search(r"upstream gateway \{(.*?)\}", text, re.S)
    assert upstream
    # Without a zone there is nowhere to keep what is found.
    assert re.search(r"^\s*zone \w+ \d+k;$", upstream[1], re.M)
    assert re.search(r"^\s*server gateway:8080 resolve;$", upstream[1], re.M)
    # Docker's name server, where every network of a container asks.
    assert re.search(r"^\s*resolver 127\.0\.0\.11 valid=\ds;$", text, re.M)
    assert "gateway" in DOCUMENT["services"]
