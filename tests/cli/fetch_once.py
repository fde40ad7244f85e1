"""`python -m tests.cli.fetch_once CACHE`: fetches the source that stands on stdin as JSON; for tests of interrupts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cli.pull.fetch import fetch_members

if __name__ == "__main__":
    members = fetch_members(json.load(sys.stdin), Path(sys.argv[1]))
    print(sorted(members))
