"""Variables that no process reads: `SENSORIUM_VISIN_…` would be ignored by all, so the supervisor names it."""

import difflib
from collections.abc import Iterable, Mapping

# Read by the command, by clients, or by every process.
_SHARED = ("SENSORIUM_ADDRESS", "SENSORIUM_TOKEN", "SENSORIUM_TOKEN_FILE", "SENSORIUM_STATE_DIR")
_PARTS = ("gateway", "log", "trace")


def find_strays(environ: Mapping[str, str], services: Iterable[str]) -> list[str]:
    """One line for each `SENSORIUM_*` variable that belongs to no part of a mesh with `services`, sorted."""
    parts = [part.upper().replace("-", "_") for part in (*services, *_PARTS)]
    prefixes = tuple(f"SENSORIUM_{part}_" for part in parts)
    strays = (
        name
        for name in sorted(environ)
        if name.startswith("SENSORIUM_") and name not in _SHARED and not name.startswith(prefixes)
    )
    return [f"{name}: ignored, no part of this mesh reads it; {_suggest(name, parts)}" for name in strays]


def _suggest(name: str, parts: list[str]) -> str:
    close = difflib.get_close_matches(name.split("_")[1], parts, n=1)
    if close:
        return f"did you mean SENSORIUM_{close[0]}_…"
    return f"they begin with {', '.join(f'SENSORIUM_{part}_' for part in parts)}"
