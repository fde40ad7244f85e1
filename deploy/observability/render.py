"""Makes the dashboards out of panels.yaml and the operator's PrometheusRule out of alerts.yaml.

`python deploy/observability/render.py` writes them; `--check` writes nothing, and exits 1 if they would differ.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
RULES = FOLDER.parent / "kubernetes" / "components" / "monitoring" / "alerts.yaml"
# Grafana's grid.
_COLUMNS, _ROWS, _NUMBER_ROWS = 24, 8, 4
_WIDTH = 8
_SOURCE = {"type": "prometheus", "uid": "prometheus"}
# By what a dashboard chooses a mesh; on one without namespaces `.*` stands for it, which also matches no label at all.
_MESH = 'namespace=~"$namespace"'
_KINDS = {"lines": "timeseries", "number": "stat", "table": "table"}


def render() -> Mapping[Path, str]:
    """All files that are made, with what belongs into them."""
    boards = yaml.safe_load((FOLDER / "panels.yaml").read_text())
    files = {
        FOLDER / "dashboards" / f"{board['file']}.json": json.dumps(render_board(board), indent=1) + "\n"
        for board in boards
    }
    return files | {RULES: render_rules((FOLDER / "alerts.yaml").read_text())}


def render_board(board: Mapping[str, Any]) -> dict[str, Any]:
    """One dashboard, as Grafana reads it."""
    return {
        "uid": f"sensorium-{board['file']}",
        "title": board["title"],
        "tags": ["sensorium"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["sensorium"], "title": "Others", "asDropdown": True}],
        "templating": {
            "list": [
                {
                    "name": "namespace",
                    "label": "Namespace",
                    "type": "query",
                    "datasource": _SOURCE,
                    "query": 'label_values(up{job="gateway"}, namespace)',
                    "refresh": 2,
                    "includeAll": True,
                    "allValue": ".*",
                    "current": {"text": "All", "value": "$__all"},
                }
            ]
        },
        "panels": list(_render_panels(board["panels"])),
    }


def _render_panels(panels: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    x = y = below = 0
    for number, panel in enumerate(panels, 1):
        kind = panel.get("kind", "lines")
        width, height = panel.get("width", _WIDTH), _NUMBER_ROWS if kind == "number" else _ROWS
        if x + width > _COLUMNS:
            x, y = 0, below
        below = y + height
        yield {
            "id": number,
            "title": panel["title"],
            "description": panel.get("help", ""),
            "type": _KINDS[kind],
            "datasource": _SOURCE,
            "gridPos": {"x": x, "y": y, "w": width, "h": height},
            "fieldConfig": {"defaults": {"unit": panel.get("unit", "short"), "min": 0}, "overrides": []},
            "targets": [
                {
                    "refId": chr(ord("A") + n),
                    "datasource": _SOURCE,
                    "expr": expression.replace("{mesh", "{" + _MESH),
                    "legendFormat": legend,
                    **({"format": "table", "instant": True} if kind == "table" else {}),
                }
                for n, (legend, expression) in enumerate(panel["queries"].items())
            ],
        }
        x += width


def render_rules(alerts: str) -> str:
    """The same rules as an object of the Prometheus operator, text and comments as they are."""
    indented = "".join(f"  {line}" if line.strip() else line for line in alerts.splitlines(keepends=True))
    return (
        "# Made by deploy/observability/render.py out of alerts.yaml beside it: change that one.\n"
        "apiVersion: monitoring.coreos.com/v1\n"
        "kind: PrometheusRule\n"
        "metadata:\n"
        "  name: sensorium\n"
        "spec:\n"
        f"{indented}"
    )


def main() -> None:
    """Writes, or checks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file would differ")
    check = parser.parse_args().check
    files = render()
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    if check and stale:
        sys.stderr.write(f"not as rendered: {', '.join(path.name for path in stale)}; run {sys.argv[0]}\n")
        raise SystemExit(1)
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path])


if __name__ == "__main__":
    main()
