"""The closing tables: one migration by round and in sum, or several side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from rich.markup import escape

from pageferry.document import Document, Round
from pageferry.fitting import MAY_BREAK, Fitted
from pageferry.price_range import UNATTRIBUTED
from paging_core.density import GROUPS
from paging_core.guest_accounts import all_causes, all_faults
from paging_core.units import NS_PER_S, format_bytes, format_ns

CAUSE_LABELS = {
    **{name: account.label for name, account in all_causes().items()},
    UNATTRIBUTED: "unattributed",
}
"""What each cause of tracking time means to a reader."""

FAULT_LABELS = {name: account.label for name, account in all_faults().items()}
"""What each kind of fault means to a reader."""

PART_LABELS = {
    "suspend": "pause and last clean",
    "last_round": "last round",
    "state": "guest state",
    "verify": "proof of all memory",
    "commit": "commit",
}
"""The parts of downtime, in the order in which they happen."""


@dataclass(frozen=True)
class Row:
    """One figure of a document.

    Attributes:
        label: what it is.
        value: where it stands in a document.
        show: how it reads.
        always: keep the row when every document has 0 there.
    """

    label: str
    value: Callable[[Document], float | None]
    show: Callable[[float, Document], str]
    always: bool = True


def count(value: float) -> str:
    """A count for display: ``12,345``."""
    return f"{value:,.0f}"


def times(value: float) -> str:
    """A ratio for display: ``1.37×``."""
    return f"{value:.2f}×" if value < 100 else f"{value:,.0f}×"


def _count(value: float, _: Document) -> str:
    return count(value)


def percent(share: float) -> str:
    """A share with its sign, three digits of it: ``+0.92 %``."""
    value = 100 * share
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:+.{digits}f} %".replace("-", "−")


def per_group(value: float) -> str:
    """Frames written per touched group: ``3.7``; nothing was where it is 0."""
    return f"{value:.1f}" if value else "–"


def _percent(value: float, _: Document) -> str:
    return percent(value)


ABSENT = "–"
"""Stands for a figure that a document does not have."""


def overhead(document: Document) -> float | None:
    """What tracking cost the guest, as a share of its untracked twin's time; None without one."""
    slowdown = document["guest"]["slowdown"]
    return None if slowdown is None else slowdown - 1


def overhead_range(document: Document) -> tuple[float, float] | None:
    """The same events at the ends of their prices: the least and the most overhead; None: unknown.

    Ascending, the overhead at the prices of the run among them.
    """
    ends = document["guest"].get("range")
    at = overhead(document)
    if ends is None or at is None:
        return None
    low, high = ends["low"]["slowdown"], ends["high"]["slowdown"]
    if low is None or high is None:
        return None
    return min(low - 1, at, high - 1), max(low - 1, at, high - 1)


def ranged(value: float, ends: tuple[float, float] | None) -> str:
    """A share and between which it lies: ``+0.92 % (+0.41 % to +2.10 %)``."""
    if ends is None or ends[0] == ends[1]:
        return percent(value)
    return f"{percent(value)} ({percent(ends[0])} to {percent(ends[1])})"


def _ranged(value: float, document: Document) -> str:
    return ranged(value, overhead_range(document)).replace(" (", f"{MAY_BREAK}(")


def _time_range(name: str, document: Document) -> str:
    """Between which a time lies, in brackets; nothing where its prices are exact."""
    ends = document["guest"].get("range")
    if ends is None:
        return ""
    at = (ends["low"]["time_ns"].get(name, 0), ends["high"]["time_ns"].get(name, 0))
    if at[0] == at[1]:
        return ""
    return f"{MAY_BREAK}({format_ns(min(at))} to {format_ns(max(at))})"


def _bytes(value: float, _: Document) -> str:
    return format_bytes(value)


def _seconds(value: float, _: Document) -> str:
    return format_ns(value * NS_PER_S)


def _per_group(value: float, _: Document) -> str:
    return per_group(value)


def _share_of_base(value: float, document: Document) -> str:
    base_ns = document["guest"]["time_ns"].get("base")
    share = f" {100 * value / base_ns:5.1f} %" if base_ns else ""
    return f"{format_ns(value)}{share}"


def _untracked(document: Document) -> float | None:
    """The twin's time; None without one."""
    return None if overhead(document) is None else document["guest"]["time_ns"].get("base")


def _cause(name: str) -> Row:
    def show(value: float, document: Document) -> str:
        return _share_of_base(value, document) + _time_range(name, document)

    return Row(f"  {CAUSE_LABELS[name]}", lambda d: d["guest"]["time_ns"].get(name), show, False)


def _fault(name: str) -> Row:
    return Row(f"  {FAULT_LABELS[name]}", lambda d: d["faults"].get(name), _count, False)


def _density(n: int) -> Row:
    return Row(
        f"  of an aligned group of {n}",
        lambda d: cast("Mapping[str, float]", d.get("density") or {}).get(str(n), 0.0),
        _per_group,
        False,
    )


def _part(name: str) -> Row:
    def seconds(document: Document) -> float:
        return cast("Mapping[str, float]", document["time"]["downtime_parts_s"])[name]

    return Row(f"  {PART_LABELS[name]}", seconds, _seconds)


SECTIONS: tuple[tuple[Row, ...], ...] = (
    (
        Row("rounds", lambda d: len(d["rounds"]), _count),
        Row("total time", lambda d: d["time"]["total_s"], _seconds),
        Row("downtime", lambda d: d["time"]["downtime_s"], _seconds),
        *(_part(name) for name in PART_LABELS),
    ),
    (
        Row("tracking overhead", overhead, _ranged),
        Row("untracked guest time", _untracked, _share_of_base),
        *(_cause(name) for name in CAUSE_LABELS),
    ),
    (
        Row("faults", lambda d: d["faults"]["total"], _count),
        *(_fault(name) for name in FAULT_LABELS),
    ),
    (
        Row("pages sent", lambda d: d["pages"]["sent"], _count),
        Row("  unique", lambda d: d["pages"]["unique"], _count),
        Row("  resent", lambda d: d["pages"]["resent"], _count),
        Row("  with their content", lambda d: d["pages"]["data"], _count),
        Row("  zero", lambda d: d["pages"]["zero"], _count, False),
        Row("  suppressed (unchanged)", lambda d: d["pages"]["suppressed"], _count),
        Row("repaired after the proof", lambda d: d["pages"].get("repaired", 0), _count, False),
        Row("falsely dirty", lambda d: d["pages"]["falsely_dirty"], _count),
        Row("skipped (dirty again)", lambda d: d["pages"]["skipped"], _count, False),
    ),
    (
        Row(
            "frames really written",
            lambda d: sum(r.get("written", 0) for r in d["rounds"]),
            _count,
            False,
        ),
        *(_density(n) for n in GROUPS),
    ),
    (
        Row("raw bytes", lambda d: d["bytes"]["raw"], _bytes),
        Row("bytes on the wire", lambda d: d["bytes"]["wire"], _bytes),
    ),
)
"""Every figure of the summary, a rule between the sections."""


def summary(documents: Sequence[Document], labels: Sequence[str]) -> Fitted:
    """One column of figures per document; with two, their ratio beside them."""
    ratio = ("ratio",) if len(documents) == 2 else ()
    table = Fitted(("", *map(escape, labels), *ratio))
    padding = [""] * len(ratio)
    table.add("outcome", *(_outcome(d) for d in documents), *padding)
    table.add("verified", *(_verified(d) for d in documents), *padding)
    for section in SECTIONS:
        table.end_section()
        for row in section:
            _add(table, row, documents)
    return table


def _add(table: Fitted, row: Row, documents: Sequence[Document]) -> None:
    values = [row.value(document) for document in documents]
    if not row.always and not any(values):
        return
    shown = [
        ABSENT if value is None else row.show(value, d)
        for value, d in zip(values, documents, strict=True)
    ]
    style = "dim" if row.label.startswith(" ") else None
    table.add(row.label, *shown, *_ratio(values), style=style)


def _ratio(values: Sequence[float | None]) -> Iterable[str]:
    if len(values) == 2:
        before, after = values
        yield times(after / before) if before and after and after / before > 0 else ""


def _outcome(document: Document) -> str:
    colour = "green" if document["outcome"] == "completed" else "red"
    return f"[{colour}]{document['outcome']}[/]"


def _verified(document: Document) -> str:
    if document["verified"]:
        return "[green]yes, every page[/]"
    return "[red]no[/]"


@dataclass(frozen=True)
class Column:
    """One figure of a round; `running` ones belong to rounds in which the guest ran."""

    title: str
    value: Callable[[Round], float | None]
    show: Callable[[float], str] = count
    always: bool = True
    running: bool = False


ROUND_COLUMNS = (
    Column("to send", lambda r: r["to_send"]),
    Column("data", lambda r: r["data"]),
    Column("zero", lambda r: r["zero"], always=False),
    Column("unchanged", lambda r: r["suppressed"], always=False),
    Column("skipped", lambda r: r["skipped"], always=False),
    Column("wire", lambda r: r["wire_bytes"], format_bytes),
    Column("time", lambda r: r["duration_s"] * NS_PER_S, format_ns),
    Column("dirty", lambda r: r["dirty"], running=True),
    Column("falsely", lambda r: r["falsely_dirty"], always=False, running=True),
    Column("faults", lambda r: r["fault_count"], always=False, running=True),
)
"""Columns of the table of rounds."""


def rounds(done: Sequence[Round]) -> Fitted:
    """One line per round: what it set out to send, what crossed, what was dirty after it."""
    shown = [
        column
        for column in ROUND_COLUMNS
        if column.always or any(column.value(stats) for stats in done)
    ]
    table = Fitted(("round", *(column.title for column in shown)))
    for stats in done:
        table.add(_name(stats), *(_cell(column, stats) for column in shown))
    return table


def _name(stats: Round) -> str:
    if stats.get("repair"):
        return "repair"
    return "stop-and-copy" if stats["stop_and_copy"] else str(stats["round"])


def _cell(column: Column, stats: Round) -> str:
    if column.running and stats["stop_and_copy"]:
        return ""
    value = column.value(stats)
    return ABSENT if value is None else column.show(value)
