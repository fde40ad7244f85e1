"""How often one client may call: Envoy's local rate limit, one bucket for each client of a tier. Pure.

It counts calls before their cost is known, and for one gateway alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gateway.config import Bucket, Mesh
from gateway.envoy import Json
from shared.rpc.caller import TIER_HEADER

# Per-route settings are looked up by this name.
RATE_LIMIT = "envoy.filters.http.local_ratelimit"
_DEFAULT = "default"


def render_rate_limit(mesh: Mesh, claims: Mapping[str, object]) -> Json:
    """The filter. claims: metadata key under which the token's claims lie, e.g. `{"key": filter, "path": [...]}`.

    Each call gets exactly one descriptor, that of its tier: with a descriptor for any tier beside those for listed ones it
    would be chance which of them Envoy takes.
    """
    limits = mesh.rate_limits
    tiers = {**limits.tiers, _DEFAULT: limits.default}
    client = {
        "metadata": {
            "descriptor_key": "client",
            "metadata_key": claims,
            "source": "DYNAMIC",
            "default_value": "anonymous",
        }
    }
    listed = "|".join(re.escape(tier) for tier in limits.tiers)
    return {
        "name": RATE_LIMIT,
        "typed_config": _config(
            mesh,
            # The entry without a value stands for any client, each with a bucket of its own.
            [
                {
                    "entries": [{"key": "tier", "value": tier}, {"key": "client"}],
                    "token_bucket": render_bucket(bucket),
                }
                for tier, bucket in tiers.items()
            ],
            [{"actions": [_is_tier(tier, listed), client]} for tier in tiers],
        ),
    }


def render_anonymous_limit(mesh: Mesh) -> Json:
    """Per-route setting for calls without a token: one bucket per address."""
    return _config(
        mesh,
        [{"entries": [{"key": "remote_address"}], "token_bucket": render_bucket(mesh.rate_limits.anonymous)}],
        [{"actions": [{"remote_address": {}}]}],
    )


def render_bucket(bucket: Bucket) -> Json:
    """A token bucket of Envoy's."""
    # Tokens come in whole ones: so often that a tenth of a second brings some, or one at a time.
    tokens = max(1, round(bucket.per_s * 0.1))
    return {
        "max_tokens": bucket.burst,
        "tokens_per_fill": tokens,
        "fill_interval": f"{tokens / bucket.per_s:.6f}s",
    }


def _is_tier(tier: str, listed: str) -> Json:
    """An action that gives the descriptor `tier`, if the token has it; the default one, if it has none that is listed."""
    if tier == _DEFAULT:
        match: Json = {"string_match": {"safe_regex": {"regex": listed or "-"}}, "invert_match": True}
    else:
        match = {"string_match": {"exact": tier}}
    header: Json = {"name": TIER_HEADER, "treat_missing_header_as_empty": True, **match}
    return {"header_value_match": {"descriptor_key": "tier", "descriptor_value": tier, "headers": [header]}}


def _config(mesh: Mesh, descriptors: Sequence[Json], rate_limits: Sequence[Json]) -> Json:
    every = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "clients",
        "filter_enabled": every,
        "filter_enforced": every,
        "rate_limited_as_resource_exhausted": True,
        # For calls that match no descriptor; all are made to match one, and this must not get in their way.
        "token_bucket": render_bucket(Bucket(per_s=1_000_000, burst=10_000_000)),
        "descriptors": list(descriptors),
        "rate_limits": list(rate_limits),
        "max_dynamic_descriptors": mesh.rate_limits.max_clients,
    }
