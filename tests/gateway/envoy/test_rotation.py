"""What Envoy's admin interface says of its hosts, and what that means for a replica."""

from __future__ import annotations

import json

import pytest

from gateway.envoy.admin import AdminError
from gateway.envoy.rotation import parse_address, read_hosts, read_versions


def clusters(**health: object) -> str:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 80}}
    host = {"address": address, "health_status": {"eds_health_status": "HEALTHY", **health}}
    return json.dumps({"cluster_statuses": [{"name": "toy", "host_statuses": [host]}, {"name": "empty"}]})


def test_a_host_gets_calls_unless_something_is_wrong_with_it() -> None:
    def judge(**health: object) -> str | None:
        return read_hosts(clusters(**health))["toy"][("127.0.0.1", 80)]

    assert judge() is None
    # Envoy marks a new one as failed until it was checked.
    assert judge(failed_active_health_check=True, pending_active_hc=True) == ""
    assert "health checks fail" in str(judge(failed_active_health_check=True))
    assert "could not connect" in str(judge(failed_outlier_check=True))
    assert read_hosts(clusters())["empty"] == {}


@pytest.mark.parametrize("text", ["", "[]", '{"cluster_statuses": [{}]}'])
def test_something_else_than_hosts_is_an_error_of_the_interface(text: str) -> None:
    with pytest.raises(AdminError, match="/clusters"):
        read_hosts(text)


def test_versions_by_what_has_them() -> None:
    said = 'cluster.toy.version_text: "a1"\nhttp.mesh.rds.mesh.version_text: ""\n'
    assert read_versions(said) == {"cluster.toy": "a1", "http.mesh.rds.mesh": ""}


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[0:0::0:1]:80", ("::1", 80)),
        ("unix:/a/b", ("/a/b", 0)),
    ],
)
def test_an_address_has_one_form(endpoint: str, address: tuple[str, int]) -> None:
    assert parse_address(endpoint) == address
