"""The table of every run."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from paging_core.units import format_bytes

_Show = Callable[[Any], str]


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):.2f} %"


def _times(ratio: float) -> str:
    return f"{ratio:.3f}"


def _count(n: int) -> str:
    return f"{n:,}"


_COLUMNS: tuple[tuple[str, str, _Show | None], ...] = (
    ("load", "load", None),
    ("paging", "paging", None),
    ("variant", "variant", None),
    ("suppress", "digests", None),
    ("slowdown", "slowdown", _percent),
    ("faults_fixup", "fixups", _count),
    ("fixups", "× single", _times),
    ("faults_total", "faults", _count),
    ("tracking", "tracking × single", _times),
    ("bytes_wire", "wire", format_bytes),
    ("wire", "× single", _times),
    ("pages_falsely_dirty", "falsely dirty", _count),
    ("rounds", "rounds", _count),
    ("total_s", "total, s", _times),
    ("downtime_s", "downtime, s", _times),
)


def runs_table(results: pa.Table, runs: pa.Table) -> str:
    """HTML of all runs, the failed ones at the end with their errors."""
    heads = "".join(
        f"<th{'' if show else ' class=text'}>{title}</th>" for _, title, show in _COLUMNS
    )
    body = "".join(_row(row) for row in runs.to_pylist())
    failed = [row for row in results.to_pylist() if row["status"] != "ok"]
    body += "".join(_failed(row) for row in failed)
    return (
        f'<table><thead><tr>{heads}<th class="text">command</th></tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _row(row: dict[str, Any]) -> str:
    cells = "".join(_cell(row[name], show) for name, _, show in _COLUMNS)
    return f"<tr>{cells}{_command(row)}</tr>"


def _cell(value: Any, show: _Show | None) -> str:
    if value is None:
        return '<td data-value="-1"></td>'
    if show is None:
        shown = ("on" if value else "off") if isinstance(value, bool) else str(value)
        return f'<td class="text">{html.escape(shown)}</td>'
    return f'<td data-value="{value}">{html.escape(show(value))}</td>'


def _failed(row: dict[str, Any]) -> str:
    span = len(_COLUMNS) - 2
    return (
        f'<tr><td class="text">{html.escape(row["load"])}</td>'
        f'<td class="text">{html.escape(row["paging"])}</td>'
        f'<td class="text" colspan="{span}">failed: {html.escape(row["error"])}</td>'
        f"{_command(row)}</tr>"
    )


def _command(row: dict[str, Any]) -> str:
    return f'<td class="text command"><code>{html.escape(row["command"])}</code></td>'
