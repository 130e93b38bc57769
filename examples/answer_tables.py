"""The tables of docs/answer.md, from a sweep of examples/answer.toml or its quarter.

    python examples/answer_tables.py out/answer

One line per load and surroundings; nothing is added up over loads. Ratios are to single pages
under the hypervisor's own clean, alike in all the rest; of several seeds a mean and a span.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pageferry.report.variants import compared
from pageferry.sweep.settings import ALIKE, BY_NAME, values_of
from paging_core.units import FRAME_BYTES

Row = Mapping[str, Any]
_BITS = 8


def dirty_share(row: Row) -> float:
    """Distinct pages written in round 1 as bytes a second, ÷ the link."""
    first = json.loads(row["document"])["rounds"][0]
    return float(
        first["written"] * FRAME_BYTES * _BITS / first["duration_s"] / row["link_bits_per_s"]
    )


def share(row: Row, *causes: str) -> float:
    """Of the tracking time, what some causes took."""
    return sum(row[f"time_{cause}_ns"] for cause in causes) / max(1, row["tracking_ns"])


def _is(row: Row, **settings: Any) -> bool:
    return all(row[name] == value for name, value in settings.items())


def _of(runs: Sequence[Row], variant: str) -> Row | None:
    return next((run for run in runs if run["variant"] == variant), None)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.0f} %".replace("-", "−")


def _saved(run: Row | None) -> str:
    return _percent(run["tracking"] - 1) if run is not None and run["tracking"] else ""


def _times(run: Row | None, name: str) -> str:
    return f"×{run[name]:.2f}" if run is not None and run[name] else ""


SHADOW: Mapping[str, Callable[[Sequence[Row], Row], str]] = {
    "dirty ÷ link": lambda _, one: f"{dirty_share(one):.2f}",
    "written of 64": lambda _, one: f"{one['density_64']:.1f}" if one["density_64"] else "–",
    "tracking": lambda _, one: f"{one['overhead_percent']:.2f} %",
    "of it fixups": lambda _, one: f"{100 * share(one, 'fixup'):.0f} %",
    "rebuild, teardown": lambda _, one: f"{100 * share(one, 'rebuild', 'teardown'):.0f} %",
    "groups of 16": lambda runs, _: _saved(_of(runs, "n = 16")),
    "groups of 64": lambda runs, _: _saved(_of(runs, "n = 64")),
    "write-protect": lambda runs, _: _saved(_of(runs, "n = 1, write-protect")),
    "PML": lambda runs, _: _saved(_of(runs, "PML")),
    "bytes, n = 64": lambda runs, _: _times(_of(runs, "n = 64"), "wire"),
    "downtime, n = 1": lambda _, one: f"{1000 * one['downtime_s']:.1f} ms",
    "downtime, n = 64": lambda runs, _: _times(_of(runs, "n = 64"), "downtime"),
}
"""Columns, from the runs of one load in one surrounding and their single pages."""


def tables(rows: Iterable[Row]) -> list[str]:
    """Markdown, a table for each surrounding."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        where = ", ".join(
            [f"{row['hypervisor']}", f"{row['paging']}", BY_NAME["link_bits_per_s"].show(
                row["link_bits_per_s"]), BY_NAME["memory_bytes"].show(row["memory_bytes"]),
             "digests" if row["suppress"] else "no digests"]
        )  # fmt: skip
        key = json.dumps(values_of(row, ALIKE), default=str)
        found.setdefault(where, {}).setdefault(key, []).append(row)
    return [_table(where, list(loads.values())) for where, loads in sorted(found.items())]


def _table(where: str, loads: Sequence[Sequence[Row]]) -> str:
    lines = [f"### {where}", "", "| load | " + " | ".join(SHADOW) + " |"]
    lines.append("|---" * (1 + len(SHADOW)) + "|")
    for runs in loads:
        single = next((run for run in runs if run["wire"] == 1), None)
        if single is not None:
            cells = (show(runs, single) for show in SHADOW.values())
            lines.append(f"| {_name(single)} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _name(row: Row) -> str:
    costs = json.loads(row["costs_ns"])
    named = row["load"] if row["trace"] else f"{row['load']} {dirty_share(row):.1f}"
    return f"{named} (seed {row['seed']}, exit {costs['exit']:g} ns)"


def main() -> None:
    """Print the tables of the sweep in the directory that is named."""
    directory = Path(sys.argv[1])
    runs = compared(pq.read_table(directory / "results.parquet")).to_pylist()
    print(*tables(runs), sep="\n")


if __name__ == "__main__":
    main()
