"""The table of every run."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pageferry.report.loads import percent
from pageferry.report.repeats import load_names, surroundings
from pageferry.sweep.settings import BY_NAME, LOADS, values_of
from pageferry.tables import per_group
from paging_core.density import GROUPS
from paging_core.units import format_bytes

_Show = Callable[[Any], str]


def _times(ratio: float) -> str:
    return f"{ratio:.3f}"


def _count(n: int) -> str:
    return f"{n:,}"


_Column = tuple[str, str, _Show | None]
_RUN: tuple[_Column, ...] = (
    ("load_name", "load", None),
    ("paging", "paging", None),
    ("variant", "variant", None),
)
_MEASURED: tuple[_Column, ...] = (
    ("overhead_percent", "tracking overhead", percent),
    ("faults_fixup", "fixups", _count),
    ("fixups", "× single", _times),
    ("faults_total", "faults", _count),
    ("tracking", "tracking × single", _times),
    ("bytes_wire", "wire", format_bytes),
    ("wire", "× single", _times),
    ("pages_falsely_dirty", "falsely dirty", _count),
    *((f"density_{n}", f"written of {n}", per_group) for n in GROUPS),
    ("rounds", "rounds", _count),
    ("total_s", "total, s", _times),
    ("downtime_s", "downtime, s", _times),
)


def runs_table(results: pa.Table, runs: pa.Table) -> str:
    """HTML of all runs, the failed ones at the end with their errors.

    Beside load and variant it has a column for every setting in which the runs differ.
    """
    rows, every = runs.to_pylist(), results.to_pylist()
    measured = [one for one in _MEASURED if any(row[one[0]] is not None for row in rows)]
    columns = (*_RUN, *_differing(every), *measured)
    names = load_names(every)
    heads = "".join(
        f"<th{'' if show else ' class=text'}>{title}</th>" for _, title, show in columns
    )
    body = "".join(_row({**row, "load_name": _load(row, names)}, columns) for row in rows)
    failed = [row for row in every if row["status"] != "ok"]
    body += "".join(_failed(row, _load(row, names), len(columns)) for row in failed)
    return (
        f'<table><thead><tr>{heads}<th class="text">command</th></tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _load(row: dict[str, Any], names: Mapping[tuple[Any, ...], str]) -> str:
    return names[values_of(row, LOADS)]


def _differing(rows: Sequence[dict[str, Any]]) -> list[_Column]:
    """The settings that tell these runs apart, as far as no other column says them."""
    named = [s for s in surroundings(rows) if s.name != "paging"]
    if len({row["seed"] for row in rows}) > 1:
        named.append(BY_NAME["seed"])
    return [(s.name, s.title, None) for s in named]


def _row(row: dict[str, Any], columns: Sequence[_Column]) -> str:
    cells = "".join(_cell(name, row[name], show) for name, _, show in columns)
    return f"<tr>{cells}{_command(row)}</tr>"


def _cell(name: str, value: Any, show: _Show | None) -> str:
    if show is None:
        setting = BY_NAME.get(name)
        shown = setting.show(value) if setting is not None else str(value)
        order = f' data-value="{value}"' if _is_number(value) else ""
        return f'<td class="text"{order}>{html.escape(shown)}</td>'
    if value is None:
        return '<td data-value="-1"></td>'
    return f'<td data-value="{value}">{html.escape(show(value))}</td>'


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _failed(row: dict[str, Any], load: str, n_columns: int) -> str:
    span = n_columns - 2
    return (
        f'<tr class="failed"><td class="text">{html.escape(load)}</td>'
        f'<td class="text">{html.escape(row["paging"])}</td>'
        f'<td class="text words long" colspan="{span}">failed: {html.escape(row["error"])}</td>'
        f"{_command(row)}</tr>"
    )


def _command(row: dict[str, Any]) -> str:
    return f'<td class="text command"><code>{html.escape(row["command"])}</code></td>'
