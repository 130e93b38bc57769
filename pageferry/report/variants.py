"""The runs of a sweep as a reader compares them: which remedy, against which single pages.

A *variant* is what was done about the faults: groups of n, groups that learn, another clean
policy, PML. Every run is set against its *baseline*: the same load, link, policy and seed, the
same kind of paging and suppression, single pages, and the clean policy that Xen has (blow, lazy).
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from paging_core.events import CAUSES

_VARIANT = """
CASE WHEN pml THEN 'PML' ELSE
  concat_ws(', ',
    CASE WHEN group_pages = 0 THEN 'adaptive' ELSE 'n = ' || group_pages END,
    CASE WHEN paging = 'shadow' AND group_scope = 'physical' AND group_pages <> 1
         THEN 'runs of gfns' END,
    CASE WHEN group_trigger > 1 THEN 'from dirty frame ' || group_trigger END,
    CASE WHEN d_bit_filter THEN 'D-bit filter' END,
    CASE WHEN clean NOT IN ('blow', 'lazy') THEN clean END)
END
"""
_KEYS = (
    "load", "memory_bytes", "paging", "suppress", "zstd_level", "link_bits_per_s", "latency_ns",
    "policy", "downtime_limit_ns", "max_rounds", "warmup_ns", "seed", "fill", "prefetch",
    "out_of_sync",
)  # fmt: skip
_TRACKING = " + ".join(f"time_{cause}_ns" for cause in CAUSES)

_MEASURES = {
    "fixups": "faults_fixup",
    "faults": "faults_total",
    "wire": "bytes_wire",
    "tracking": "tracking_ns",
    "total": "total_s",
    "downtime": "downtime_s",
}
"""What is set against the baseline, by the name of the ratio."""
_RATIOS = ", ".join(
    f"b.{measure} AS base_{ratio}, r.{measure} / nullif(b.{measure}, 0) AS {ratio}"
    for ratio, measure in _MEASURES.items()
)


def compared(results: pa.Table) -> pa.Table:
    """Every run that completed, with its variant and its ratios to its baseline.

    Returns:
        Columns of the sweep's table and `variant`, `plain` (fixed groups and nothing else),
        `tracking_ns`, and the ratios `fixups`, `faults`, `wire`, `tracking`, `total`, `downtime`
        to the baseline, whose own values are `base_<ratio>`; NULL where there is none, or 0.
    """
    same = " AND ".join(f"r.{key} IS NOT DISTINCT FROM b.{key}" for key in _KEYS)
    with duckdb.connect() as db:
        db.register("results", results)
        db.execute(
            f"CREATE TABLE runs AS SELECT *, {_VARIANT} AS variant, {_TRACKING} AS tracking_ns, "
            "NOT pml AND group_pages > 0 AND group_trigger = 1 AND NOT d_bit_filter "
            "AND clean IN ('blow', 'lazy') AND (paging = 'hap' OR group_scope = 'virtual') "
            "AS plain FROM results WHERE status = 'ok'"
        )
        return db.sql(
            f"SELECT r.*, {_RATIOS} FROM runs r "
            f"LEFT JOIN (FROM runs WHERE plain AND group_pages = 1) b ON {same} "
            "ORDER BY r.load, r.paging, r.suppress DESC, r.plain DESC, r.group_pages, r.variant"
        ).to_arrow_table()


# Only loads whose baseline has something to be compared with.
_SUMS = ", ".join(
    f"sum({measure}) FILTER (base_{ratio} > 0) / "
    f"nullif(sum(base_{ratio}) FILTER (base_{ratio} > 0), 0) AS {ratio}"
    for ratio, measure in _MEASURES.items()
)


def totals(runs: pa.Table) -> pa.Table:
    """The ratios of every variant over all loads together: sums against sums."""
    with duckdb.connect() as db:
        db.register("runs", runs)
        return db.sql(
            f"SELECT paging, suppress, plain, group_pages, variant, count(*) AS loads, {_SUMS}, "
            "sum(bytes_wire)::BIGINT AS bytes_wire, "
            "sum(pages_falsely_dirty)::BIGINT AS falsely_dirty "
            "FROM runs WHERE wire IS NOT NULL GROUP BY ALL "
            "ORDER BY paging, suppress DESC, plain DESC, group_pages, variant"
        ).to_arrow_table()
