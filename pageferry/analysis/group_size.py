"""The group size that a workload would have wanted, and what another one would have cost.

From the frames that were truly written, epoch by epoch: with aligned groups of n gfns every
touched group is one fault, and its unwritten frames are opened, marked and sent for nothing.
What an ungrouped trace says here is exact for its own epochs; in a grouped one, writes that
followed the first to an open frame are unseen, but so they would be with single pages.
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
from pageferry.analysis.groups import prices_of
from pageferry.analysis.trace import FlowTrace

SIZES = tuple(1 << i for i in range(11))
DEFAULT_LINK_BITS_PER_S = 1_000_000_000
"""Of migrations on the real clock, which model no link."""

_TOUCHED = """
SELECT count(*) AS touched, sum(least($n, $frames - first * $n))::BIGINT AS frames,
       sum(written)::BIGINT AS written
FROM (SELECT epoch, gfn // $n AS first, count(*) AS written FROM dirtied GROUP BY ALL)
"""


def group_sizes(trace: FlowTrace) -> dict[str, Any]:
    """Costs by group size, and the best one for the guest alone and for a link that binds."""
    link = trace.document["config"]["link_bits_per_s"] or DEFAULT_LINK_BITS_PER_S
    prices = prices_of(trace.document)
    sends = {
        "guest": 0.0,
        "with_suppression": page_ns(link, DIGEST_BYTES),
        "without_suppression": page_ns(link),
    }
    curve = [_at(trace, n, prices, sends) for n in SIZES]
    wanted = {
        case: min(curve, key=lambda at: (at["cost_ns"][case], at["n"]))["n"] for case in sends
    }
    return {"link_bits_per_s": link, "wanted": wanted, "curve": curve}


def _at(trace: FlowTrace, n: int, prices: Prices, sends: dict[str, float]) -> dict[str, Any]:
    row = trace.row(_TOUCHED, n=n, frames=trace.n_frames)
    touched, written = row["touched"], row["written"] or 0
    falsely = (row["frames"] or 0) - written
    k = written / touched if touched else 1.0
    cases = {case: Prices(prices.fault_ns, prices.open_ns, ns) for case, ns in sends.items()}
    return {
        "n": n,
        "faults": touched,
        "falsely_dirty": falsely,
        "written_per_group": k,
        "cost_ns": {
            case: touched * p.fault_ns
            + (written - touched) * p.open_ns
            + falsely * (p.open_ns + p.send_ns)
            for case, p in cases.items()
        },
        "break_even_k": {case: written_at_break_even(n, p) for case, p in cases.items()},
        "pays": {case: gain_ns(n, min(k, n), p) > 0 for case, p in cases.items()},
    }
