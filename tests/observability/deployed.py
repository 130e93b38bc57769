"""What lies in deploy/ for Prometheus and Grafana, and the tool that judges the first."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.test.yml"))
_METRIC = re.compile(r"\bpageferry_[a-z_]+")
_HISTOGRAM = re.compile(r"_(bucket|sum|count)$")


def promtool(*arguments: str | Path, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run it, with `given` on standard input; both of its outputs come back as one."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("there is no promtool; on Debian, apt-get install prometheus")
    return subprocess.run(
        [tool, *map(str, arguments)], input=given, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
    )  # fmt: skip


def read(path: Path) -> dict[str, Any]:
    """A YAML document."""
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def rules() -> list[dict[str, Any]]:
    """Every recording and alert rule."""
    return [rule for path in RULES for group in read(path)["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """Every alert, by its name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboards() -> dict[str, dict[str, Any]]:
    """Every dashboard as it is checked in, by the name of its file."""
    return {
        path.stem: json.loads(path.read_text()) for path in (GRAFANA / "dashboards").glob("*.json")
    }


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """All but the headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(dashboard: dict[str, Any]) -> list[tuple[str, str]]:
    """Each query of a dashboard, panels and annotations, with where it stands."""
    found = [
        (f"{panel['title']} {target['refId']}", target["expr"])
        for panel in panels(dashboard)
        for target in panel["targets"]
    ]
    annotations = dashboard["annotations"]["list"]
    return found + [(one["name"], one["expr"]) for one in annotations]


def fill(expr: str, *, rate: str = "1m", span: str = "1h") -> str:
    """A query of Grafana as Prometheus gets it, everything chosen."""
    values = {"$__rate_interval": rate, "$__range": span, "$host": ".*", "$migration": ".*"}
    for name, value in values.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, f"a variable that nobody fills in: {expr}"
    return expr


def families(expr: str) -> set[str]:
    """Our metrics in an expression; of histograms, their names."""
    names = {name for name in _METRIC.findall(expr) if not _recorded(name, expr)}
    return {_HISTOGRAM.sub("", name) for name in names}


def _recorded(name: str, expr: str) -> bool:
    return re.search(rf"{name}:|:{name}", expr) is not None


def metrics_documented() -> set[str]:
    """Names in docs/metrics.md, which is generated from the registries."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    return set(re.findall(r"^\| `(pageferry_\w+)`", page, re.MULTILINE))
