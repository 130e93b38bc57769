"""A table for each load, in absolute terms: what tracking cost the guest, and what crossed."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pageferry.report.repeats import Repeated, Spread
from pageferry.tables import ABSENT, per_group
from paging_core.density import GROUPS
from paging_core.units import NS_PER_S, format_bytes, format_ns


@dataclass(frozen=True)
class Figure:
    """A figure that every load's table has.

    Attributes:
        title: head of its column.
        column: of `variants.compared`.
        ratio: the column of its ratio to single pages.
        show: a value of it in words.
    """

    title: str
    column: str
    ratio: str
    show: Callable[[float], str]


def percent(value: float) -> str:
    """Of the guest's time, to a hundredth of a percent, or two digits of less than that."""
    return f"{value:.2f} %" if abs(value) >= 0.1 or value == 0 else f"{value:.2g} %"


def count(value: float) -> str:
    """Events; the mean of several runs may be a fraction."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def seconds(value: float) -> str:
    """A time in seconds, for display."""
    return format_ns(value * NS_PER_S)


OVERHEAD = Figure("tracking overhead", "overhead_percent", "overhead", percent)
FIXUPS = Figure("fixup faults", "faults_fixup", "fixups", count)
WIRE = Figure("bytes on the wire", "bytes_wire", "wire", format_bytes)
DOWNTIME = Figure("downtime", "downtime_s", "downtime", seconds)
FIGURES = (OVERHEAD, FIXUPS, WIRE, DOWNTIME)


def load_tables(runs: Iterable[Repeated]) -> list[tuple[str, str]]:
    """The HTML of a table for each load: its name, and the table."""
    by_load: dict[str, list[Repeated]] = {}
    for run in runs:
        by_load.setdefault(run.load, []).append(run)
    return [(load, _table(mine)) for load, mine in sorted(by_load.items())]


def spread(found: Spread | None, show: Callable[[float], str]) -> str:
    """HTML: the mean, and where there are several between what they lie."""
    if found is None:
        return ""
    if found.n == 1 or found.least == found.most:
        return show(found.mean)
    between = f"[{show(found.least)} to {show(found.most)}]"
    return f'{show(found.mean)} <span class="spread">{between}</span>'


def factor(found: Spread | None) -> str:
    """Of a ratio: `×0.43`."""
    return "" if found is None else f"×{found.mean:.2f}"


def _table(runs: Sequence[Repeated]) -> str:
    heads = "".join(f"<th>{figure.title}</th><th></th>" for figure in FIGURES)
    sizes = [n for n in GROUPS if any(run.spread(f"density_{n}") for run in runs)]
    heads += "".join(f"<th>written of {n}</th>" for n in sizes)
    by_where: dict[str, list[Repeated]] = {}
    for run in runs:
        by_where.setdefault(run.where, []).append(run)
    bodies = "".join(_body(where, mine, sizes) for where, mine in by_where.items())
    return f'<table><thead><tr><th class="text"></th>{heads}</tr></thead>{bodies}</table>'


def _body(where: str, runs: Sequence[Repeated], sizes: Sequence[int]) -> str:
    span = 1 + 2 * len(FIGURES) + len(sizes)
    head = f'<tr class="group"><td class="text" colspan="{span}">{html.escape(where)}</td></tr>'
    return f"<tbody>{head}{''.join(_row(run, sizes) for run in runs)}</tbody>"


def _row(run: Repeated, sizes: Sequence[int]) -> str:
    cells = "".join(_cells(run, figure) for figure in FIGURES)
    cells += "".join(_density(run, n) for n in sizes)
    name = str(run["variant"])
    if len(run.runs) > 1:
        name += f" ({len(run.runs)} seeds)"
    return f'<tr><td class="text words">{html.escape(name)}</td>{cells}</tr>'


def _density(run: Repeated, n: int) -> str:
    found = run.spread(f"density_{n}")
    return f'<td data-value="{found.mean if found else -1}">{spread(found, per_group)}</td>'


def _by_prices(run: Repeated, figure: Figure) -> str:
    """Of the overhead: what the same events cost with all prices low, and with all of them high."""
    if figure is not OVERHEAD:
        return ""
    ends = [run.spread(f"overhead_{end}_percent") for end in ("low", "high")]
    if ends[0] is None or ends[1] is None or ends[0].mean == ends[1].mean:
        return ""
    low, high = sorted(end.mean for end in ends if end is not None)
    return f" <small>({figure.show(low)} to {figure.show(high)})</small>"


def _cells(run: Repeated, figure: Figure) -> str:
    found, ratio = run.spread(figure.column), run.spread(figure.ratio)
    shown = (spread(found, figure.show) or ABSENT) + _by_prices(run, figure)
    return (
        f'<td data-value="{found.mean if found else -1}">{shown}</td>'
        f'<td class="factor" data-value="{ratio.mean if ratio else -1}">{factor(ratio)}</td>'
    )
