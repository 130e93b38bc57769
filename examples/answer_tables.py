"""The tables of docs/answer.md, from a sweep of examples/answer.toml or its quarter.

    python examples/answer_tables.py out/answer

One line per load, seed and prices; nothing is added up over loads. Ratios (×) are to single pages
under the hypervisor's own clean, alike in all the rest; brackets span the intervals of the prices.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pageferry.report.variants import compared
from pageferry.sweep.directory import existing
from pageferry.sweep.settings import ALIKE, BY_NAME, values_of
from paging_core.units import FRAME_BYTES
from paging_core.workloads.catalog import parse_spec
from paging_core.workloads.dirty_rate import PATTERNS

Row = Mapping[str, Any]
_BITS = 8
SHARES = ("0.1", "0.5", "0.9", "1.5")
"""Of the link: dirty rates that the grids ask for."""


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


def _span(values: Sequence[float], show: Callable[[float], str]) -> str:
    """The first of them, and between what all lie if that reads otherwise."""
    typical, least, most = show(values[0]), show(min(values)), show(max(values))
    return typical if least == typical == most else f"{typical} ({least} … {most})"


def _overhead(run: Row) -> str:
    ends = [run[f"overhead{end}_percent"] for end in ("", "_low", "_high")]
    return _span([end for end in ends if end is not None], lambda value: f"{value:.2f}") + " %"


def _left(run: Row | None) -> str:
    """Of the overhead of single pages, what is left, over the intervals of the prices."""
    if run is None or run["overhead"] is None:
        return ""
    ends = [run[f"overhead{end}"] for end in ("", "_low", "_high")]
    return _span([end for end in ends if end is not None], lambda value: f"×{value:.2f}")


def _times(run: Row | None, name: str) -> str:
    return f"×{run[name]:.2f}" if run is not None and run[name] else ""


COLUMNS: Mapping[str, Callable[[Sequence[Row], Row], str]] = {
    "dirty ÷ link": lambda _, one: f"{dirty_share(one):.2f}",
    "written of 64": lambda _, one: f"{one['density_64']:.1f}" if one["density_64"] else "–",
    "overhead": lambda _, one: _overhead(one),
    "of it fixups": lambda _, one: f"{100 * share(one, 'fixup'):.0f} %",
    "rebuild, teardown": lambda _, one: f"{100 * share(one, 'rebuild', 'teardown'):.0f} %",
    "groups of 16": lambda runs, _: _left(_of(runs, "n = 16")),
    "groups of 64": lambda runs, _: _left(_of(runs, "n = 64")),
    "write-protect": lambda runs, _: _left(_of(runs, "n = 1, write-protect")),
    "PML": lambda runs, _: _left(_of(runs, "PML")),
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
    lines = [f"### {where}", "", "| load | " + " | ".join(COLUMNS) + " |"]
    lines.append("|---" * (1 + len(COLUMNS)) + "|")
    for runs in loads:
        single = next((run for run in runs if run["wire"] == 1), None)
        if single is not None:
            cells = (show(runs, single) for show in COLUMNS.values())
            lines.append(f"| {_name(single)} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _asked(row: Row) -> str:
    """The dirty rate that a load was given, as a share of the link."""
    info, settings = parse_spec(row["workload"])
    for asked in SHARES if info.name in PATTERNS else ():
        spec = f"{info.name}:wss={settings['wss']},dirty={asked}link"
        if parse_spec(spec, row["link_bits_per_s"])[1]["write_rate"] == settings["write_rate"]:
            return asked
    return ""


def _name(row: Row) -> str:
    costs = json.loads(row["costs_ns"])
    named = row["load"] if row["trace"] else f"{row['load']} {_asked(row)}"
    return f"{named} (seed {row['seed']}, exit {costs['exit']:g} ns)"


def main() -> None:
    """Print the tables of the sweep in the directory that is named."""
    directory = Path(sys.argv[1])
    runs = compared(existing(directory).read_table()).to_pylist()
    print(*tables(runs), sep="\n")


if __name__ == "__main__":
    main()
