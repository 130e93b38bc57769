"""What groups of another size would have cost on the same writes, as far as the flow can know.

From the frames that were truly written, epoch by epoch. The first fixup in an aligned run of n gfns
opens the run; of its other written frames those are saved that a group can open:

HAP, runs of gfns    every frame of the run
runs of entries      what is mapped and was written before. A frame that the flow has not seen
                     written and whose first write was the guest's own first access (no shadow entry
                     was there: `write_build`; or the entry was there and the fault was not charged
                     to tracking) is taken to be untouched: no group opens it, whatever n. If it was
                     not (its entry was torn down by the clean), groups save it: `faults_least`.

A fixup is charged to tracking with exit and repair only where the entry was there to be repaired;
where it had to be built, the fault would have come anyway, or is the price of the clean, and the
mark alone is the fixup's. So it is that an ungrouped run of a program that touches fresh memory has
13,000 fixups and pays for 4,000. Marks that are no fixup's, of page tables whose A and D bits the
walker sets, are charged to fixups too, and groups change nothing about them.

Runs of entries are runs of addresses, and the flow has gfns: they are taken for the same. Where
the guest's kernel changes its tables (fork, copy on write, a page handed out at its first access)
they are not, and nothing is said.
Frames of a run that nobody wrote in the epoch are opened if they are mapped and were written
before, which the flow knows only of those that it saw written: falsely dirty are between
`falsely_dirty_least` and `falsely_dirty`. The numbers of the run itself are `measured`;
docs/analysis.md says how far the others were off in migrations that were run.
"""

from __future__ import annotations

from typing import Any

from pageferry.analysis.break_even import (
    DIGEST_BYTES,
    Prices,
    gain_ns,
    page_ns,
    written_at_break_even,
)
from pageferry.analysis.flow import Flow
from pageferry.analysis.groups import prices_of
from pageferry.document import Document
from paging_core.costs import CostTable
from paging_core.events import Event

SIZES = tuple(1 << i for i in range(11))
DEFAULT_LINK_BITS_PER_S = 1_000_000_000
"""Of migrations on the real clock, which model no link."""
NEAR = 1.1
"""Sizes that cost at most a tenth more than the best are as good as it: estimates are no better."""

# A frame's first write in an epoch, as far as it took a fixup or a group spared it one, with the
# fault that it took; one to an opened frame would have met an entry that is there.
_WRITES = """
CREATE TEMP TABLE writes AS
SELECT d.epoch, d.gfn, d.time_ns, d.seen_before, d.how = 'fixup' AS fixed,
       d.how = 'fixup' AND coalesce(f.detail, '') = 'write_build' AS built
FROM (SELECT *, row_number() OVER (PARTITION BY gfn ORDER BY epoch) > 1 AS seen_before
      FROM dirtied) d
ASOF LEFT JOIN (SELECT gfn, time_ns, detail FROM events WHERE kind = 'fault') f
  ON f.gfn = d.gfn AND f.time_ns <= d.time_ns
WHERE d.how <> 'logged'
"""
_REPAIRED = """
SELECT count(*) FILTER (fixed AND NOT built) AS repaired,
       count(*) FILTER (fixed AND NOT built AND NOT seen_before) AS first,
       count(*) FILTER (fixed) AS fixups
FROM writes
"""
# `charged`: exit and repair are the fixup's. `apart`: no group opens it, see above.
_CLASSED = """
CREATE TEMP TABLE classed AS
SELECT *, NOT built AND NOT (fixed AND NOT seen_before AND {first_is_access}) AS charged,
       {virtual} AND fixed AND NOT seen_before AND (built OR {first_is_access}) AS apart
FROM writes
"""
# All sizes at once: a run of every size that a write falls into.
_SIZED = "(SELECT unnest({sizes}) AS n)"
_RUNS = """
CREATE TEMP TABLE runs AS
SELECT n, epoch, gfn // n AS run, count(*) AS written, count(*) FILTER (apart) AS apart,
       count(*) FILTER (seen_before) AS known,
       arg_min(apart, time_ns) AS opener_apart, arg_min(charged, time_ns) AS opener_charged,
       least(n, {frames} - (gfn // n) * n) AS frames
FROM classed, {sized} GROUP BY n, epoch, gfn // n
"""
_COUNTS = """
SELECT n, count(*) AS touched, sum(written)::BIGINT AS written,
       sum(apart + (NOT opener_apart)::INT)::BIGINT AS faults,
       count(*) FILTER (opener_charged) AS charged,
       sum(frames - written)::BIGINT AS unwritten, sum(known)::BIGINT AS known
FROM runs GROUP BY n
"""
# Frames of the touched runs that the flow saw written in an earlier epoch.
_SEEN = """
SELECT r.n, count(*) AS seen FROM runs r
JOIN (SELECT s.n, gfn // s.n AS run, min(epoch) AS epoch FROM dirtied, {sized} s
      GROUP BY s.n, gfn, gfn // s.n) f
  ON f.n = r.n AND f.run = r.run AND f.epoch < r.epoch GROUP BY r.n
"""
_LOGGED = """
SELECT r.n, count(*) AS logged FROM dirtied d
JOIN runs r ON r.epoch = d.epoch AND r.run = d.gfn // r.n WHERE d.how = 'logged' GROUP BY r.n
"""
_NOTHING = {"touched": 0, "written": 0, "faults": 0, "charged": 0, "unwritten": 0, "known": 0}


def group_sizes(flow: Flow) -> dict[str, Any]:
    """Costs by group size, and the best ones for the guest alone and for a link that binds."""
    config = flow.document["config"]
    link = config["link_bits_per_s"] or DEFAULT_LINK_BITS_PER_S
    default_ns = CostTable().ns(Event.PAGE_DIGEST)  # for results of before it had a price
    digest_ns = config["costs_ns"].get("page_digest", default_ns)
    # What the D-bit filter takes out of the bitmap does not cross.
    crosses = 0.0 if config["d_bit_filter"] else 1.0
    sends = {
        "guest": 0.0,
        "with_suppression": crosses * (digest_ns + page_ns(link, DIGEST_BYTES)),
        "without_suppression": crosses * page_ns(link),
    }
    found = {"link_bits_per_s": link, "measured": _measured(flow.document)}
    if unknown := _unknown(flow.document):
        return {**found, "unknown": unknown, "apart": 0, "wanted": None, "curve": []}
    apart, whole = _classify(flow)
    counts = _counted(flow)
    curve = [_at(flow, n, counts[n], sends) for n in SIZES]
    wanted = {case: _wanted(curve, case) for case in sends} if whole else None
    return {**found, "unknown": None, "apart": apart, "wanted": wanted, "curve": curve}


def _unknown(document: Document) -> str | None:
    """Why the flow says nothing about groups of another size, if so."""
    own_faults = document["guest"]["events"]["guest_fault"]
    if document["config"]["paging"] != "shadow" or not own_faults:
        return None
    moved = (
        "the guest's kernel handed out or moved pages while it was tracked "
        f"({own_faults:,} of the guest's own faults)"
    )
    if document["config"]["group_scope"] == "physical":
        return f"{moved}, and reckoned groups of gfns were not held to migrations of such guests"
    return (
        f"{moved}, groups of shadow entries open neighbours by address, and the flow has the frame "
        "of each fault and not its address"
    )


def _classify(flow: Flow) -> tuple[int, int]:
    """Make the table `classed`; how many writes no group saves, and how many there are."""
    flow.db.execute(_WRITES)
    counts = flow.row(_REPAIRED)
    # More repairs than were charged: the guest's own first writes to entries it had read through.
    uncharged = counts["repaired"] - _charged(flow.document, counts["fixups"])
    virtual = flow.document["config"]["group_scope"] == "virtual"
    # Tables made by a statement with parameters: DuckDB takes none there.
    switches = {
        "virtual": str(virtual).upper(),
        "first_is_access": str(2 * uncharged > max(1, counts["first"])).upper(),
    }
    flow.db.execute(_CLASSED.format(**switches))
    row = flow.row("SELECT count(*) FILTER (apart) AS apart, count(*) AS whole FROM classed")
    return row["apart"], row["whole"]


def _charged(document: Document, fixups: int) -> float:
    """Fixups that were charged with exit and repair, from the time that was spent on them."""
    prices, mark_ns = prices_of(document), document["config"]["costs_ns"]["mark_dirty"]
    repair_ns = prices.fault_ns - mark_ns
    marks = fixups + _other_marks(document)
    spent_ns = document["guest"]["time_ns"]["fixup"] - marks * mark_ns
    return spent_ns / repair_ns if repair_ns > 0 else float("inf")


def _other_marks(document: Document) -> int:
    """Marks that were charged beside those of the fixups; unknown, and 0, in older results."""
    charged = document["guest"].get("events_by", {}).get("fixup", {})
    return max(0, charged.get("mark_dirty", 0) - document["faults"]["fixup"])


def _measured(document: Document) -> dict[str, Any]:
    times, config = document["guest"]["time_ns"], document["config"]
    return {
        "n": config["group_pages"],
        "faults": document["faults"]["fixup"],
        "falsely_dirty": document["pages"]["falsely_dirty"],
        "fixup_ns": times["fixup"],
        "group_ns": times["group"],
    }


def _wanted(curve: list[dict[str, Any]], case: str) -> dict[str, int]:
    """The smallest and the largest size that may be as good as the best."""
    good: set[int] = set()
    for costs in ("cost_ns", "cost_least_ns"):
        best = min(at[costs][case] for at in curve)
        good |= {at["n"] for at in curve if at[costs][case] <= NEAR * best}
    return {"from": min(good), "to": max(good)}


def _counted(flow: Flow) -> dict[int, dict[str, int]]:
    """What was touched and written in runs of every size."""
    sized = _SIZED.format(sizes=list(SIZES))
    flow.db.execute(_RUNS.format(sized=sized, frames=flow.n_frames))
    counts: dict[int, dict[str, int]] = {n: {**_NOTHING, "seen": 0, "logged": 0} for n in SIZES}
    for sql in (_COUNTS, _SEEN.format(sized=sized), _LOGGED):
        for row in flow.rows(sql):
            counts[row["n"]] |= row
    return counts


def _at(flow: Flow, n: int, row: dict[str, int], sends: dict[str, float]) -> dict[str, Any]:
    config, prices = flow.document["config"], prices_of(flow.document)
    mark_ns = config["costs_ns"]["mark_dirty"]
    written, faults, least = row["written"], row["faults"], row["touched"]
    falsely = max(0, row["unwritten"] - row["logged"])
    seen = min(falsely, max(0, row["seen"] - row["known"]))
    falsely_least = seen if config["group_scope"] == "virtual" else falsely
    k = 1 + (written - faults) / least if least else 1.0
    cases = {case: Prices(prices.fault_ns, prices.open_ns, ns) for case, ns in sends.items()}
    charged_ns = row["charged"] * (prices.fault_ns - mark_ns)
    charged_ns += _other_marks(flow.document) * mark_ns
    fixup_ns = charged_ns + faults * mark_ns
    fixup_least_ns = charged_ns + least * mark_ns
    ends = (
        _costs(fixup_ns, written - faults, falsely, cases),
        _costs(fixup_least_ns, written - least, falsely_least, cases),
    )
    return {
        "n": n,
        "faults": faults,
        "faults_least": least,
        "falsely_dirty": 0 if config["d_bit_filter"] else falsely,
        "falsely_dirty_least": 0 if config["d_bit_filter"] else falsely_least,
        "written_per_group": k,
        "fixup_ns": fixup_ns,
        "cost_ns": {case: max(end[case] for end in ends) for case in cases},
        "cost_least_ns": {case: min(end[case] for end in ends) for case in cases},
        "break_even_k": {case: written_at_break_even(n, p) for case, p in cases.items()},
        "pays": {case: gain_ns(n, min(k, n), p) > 0 for case, p in cases.items()},
    }


def _costs(fixup_ns: float, saved: int, falsely: int, cases: dict[str, Prices]) -> dict[str, float]:
    return {
        case: fixup_ns + saved * p.open_ns + falsely * (p.open_ns + p.send_ns)
        for case, p in cases.items()
    }
