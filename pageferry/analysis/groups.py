"""What groups saved, and what they opened for nothing."""

from __future__ import annotations

from typing import TypedDict

from pageferry.analysis.break_even import Prices
from pageferry.analysis.flow import Flow
from pageferry.document import Document

_TOP = 20
"""Groups that are listed by name."""

# Opened in an epoch, found dirty by the clean that ended it, and unwritten: false. Its next
# crossing was for nothing; if the guest wrote the frame after that, it had to go again.
_FALSE = """
CREATE TEMP TABLE false_dirty AS
SELECT o.epoch, o.gfn, o.leader, c.round, c.kind, c.changed, coalesce(c.wire_bytes, 0) AS bytes,
       c.time_ns AS sent_ns,
       EXISTS (FROM dirtied d WHERE d.gfn = o.gfn AND d.epoch > o.epoch
               AND (c.time_ns IS NULL OR d.time_ns > c.time_ns)) AS written_later
FROM (SELECT * FROM opened WHERE written_ns IS NULL
      AND epoch <= (SELECT max(epoch) FROM cleans)) o
LEFT JOIN (SELECT * FROM crossed QUALIFY row_number()
           OVER (PARTITION BY gfn, epoch ORDER BY time_ns) = 1) c
  ON c.gfn = o.gfn AND c.epoch = o.epoch
"""
# What the D-bit filter took out of the bitmap was not found dirty, and did not cross.
_FILTERED = "DELETE FROM false_dirty WHERE sent_ns IS NULL"
_CLASSES = """
SELECT count(*) FILTER (sent_ns IS NULL) AS never_sent,
       count(*) FILTER (sent_ns IS NOT NULL AND NOT written_later) AS never_written,
       coalesce(sum(bytes) FILTER (NOT written_later), 0) AS never_written_bytes,
       count(*) FILTER (sent_ns IS NOT NULL AND written_later) AS sent_too_early,
       coalesce(sum(bytes) FILTER (written_later), 0) AS sent_too_early_bytes,
       count(*) FILTER (kind = 'unchanged') AS suppressed
FROM false_dirty
"""
_SAME_BYTES = """
SELECT count(*) AS frames, coalesce(sum(c.wire_bytes), 0) AS bytes
FROM opened o JOIN crossed c ON c.gfn = o.gfn AND c.epoch = o.epoch
WHERE o.written_ns IS NOT NULL AND NOT c.changed
"""
_BY_ROUND = """
SELECT c.epoch AS round,
       (SELECT count(*) FROM dirtied d WHERE d.epoch = c.epoch AND d.how = 'fixup') AS fixups,
       (SELECT count(*) FROM opened o WHERE o.epoch = c.epoch) AS opened,
       (SELECT count(*) FROM opened o WHERE o.epoch = c.epoch AND written_ns IS NOT NULL) AS saved,
       (SELECT count(*) FROM false_dirty f WHERE f.epoch = c.epoch) AS falsely_dirty,
       (SELECT coalesce(sum(bytes), 0) FROM false_dirty f WHERE f.epoch = c.epoch) AS false_bytes
FROM cleans c ORDER BY round
"""
# A group is named by its lowest frame: the same run may be opened by different leaders.
_BY_GROUP = """
WITH members AS (
  SELECT epoch, leader, least(min(gfn), leader) AS first_gfn, count(*) AS opened,
         count(written_ns) AS saved
  FROM opened GROUP BY epoch, leader),
falses AS (
  SELECT epoch, leader, count(*) AS falsely_dirty, sum(bytes) AS bytes,
         count(*) FILTER (written_later) AS sent_too_early
  FROM false_dirty GROUP BY epoch, leader)
SELECT first_gfn, count(*) AS rounds, sum(opened)::BIGINT AS opened, sum(saved)::BIGINT AS saved,
       coalesce(sum(falsely_dirty), 0)::BIGINT AS falsely_dirty,
       coalesce(sum(sent_too_early), 0)::BIGINT AS sent_too_early,
       coalesce(sum(bytes), 0) AS false_bytes
FROM members LEFT JOIN falses USING (epoch, leader)
GROUP BY first_gfn
"""
_BY_FRAME = """
SELECT gfn, count(*) AS rounds, coalesce(sum(bytes), 0) AS false_bytes,
       count(*) FILTER (written_later) AS sent_too_early
FROM false_dirty GROUP BY gfn ORDER BY rounds DESC, false_bytes DESC, gfn LIMIT $top
"""

FULL = {
    "rounds": _BY_ROUND,
    "groups": "FROM group_totals ORDER BY first_gfn",
    "frames": """
WITH written AS (
  SELECT gfn, count(*) AS dirtied, count(*) FILTER (how = 'fixup') AS fixups
  FROM dirtied GROUP BY gfn),
groups AS (
  SELECT gfn, count(*) AS opened, count(written_ns) AS saved FROM opened GROUP BY gfn),
falses AS (
  SELECT gfn, count(*) AS falsely_dirty, count(*) FILTER (written_later) AS sent_too_early
  FROM false_dirty GROUP BY gfn),
crossings AS (
  SELECT gfn, count(*) AS sent, count(*) FILTER (NOT changed) AS unchanged,
         sum(wire_bytes) AS wire_bytes
  FROM sends GROUP BY gfn)
SELECT gfn, coalesce(dirtied, 0) AS dirtied, coalesce(fixups, 0) AS fixups,
       coalesce(opened, 0) AS opened, coalesce(saved, 0) AS saved,
       coalesce(falsely_dirty, 0) AS falsely_dirty, coalesce(sent_too_early, 0) AS sent_too_early,
       coalesce(sent, 0) AS sent, coalesce(unchanged, 0) AS unchanged,
       coalesce(wire_bytes, 0) AS wire_bytes
FROM written FULL JOIN groups USING (gfn) FULL JOIN falses USING (gfn)
FULL JOIN crossings USING (gfn) ORDER BY gfn
""",
}
"""Whole tables, for those who want to go on; asked after `false_dirties`."""


class Saved(TypedDict):
    """Faults that groups saved against the ungrouped tracker."""

    fixups: int
    opened: int
    saved: int
    fault_ns: float
    open_ns: float
    saved_ns: float
    paid_ns: float


def prices_of(document: Document) -> Prices:
    """What a fixup costs under the migration's cost table, and one more frame of a group."""
    costs = document["config"]["costs_ns"]
    if document["config"]["paging"] == "shadow":
        repair_ns = costs["fixup"]
    else:
        syncs = document["config"].get("violations") == "sync"  # absent before 0.3
        sync_ns = costs["p2m_sync"] if syncs else 0
        repair_ns = costs["p2m_violation"] + sync_ns
    # The D-bit filter looks at every opened frame when the log is cleaned.
    scan = costs["d_bit_scan"] if document["config"]["d_bit_filter"] else 0
    mark_ns = costs["mark_dirty"]
    return Prices(costs["exit"] + repair_ns + mark_ns, costs["group_open"] + mark_ns + scan)


def saved(flow: Flow) -> Saved:
    """Every opened frame that was really written in its epoch is a fixup that did not happen."""
    counts = flow.row(
        "SELECT (SELECT count(*) FROM dirtied WHERE how = 'fixup') AS fixups, "
        "count(*) AS opened, count(written_ns) AS saved FROM opened"
    )
    prices = prices_of(flow.document)
    return {
        **counts,  # type: ignore[typeddict-item]
        "fault_ns": prices.fault_ns,
        "open_ns": prices.open_ns,
        "saved_ns": counts["saved"] * prices.fault_ns,
        "paid_ns": counts["opened"] * prices.open_ns,
    }


def false_dirties(flow: Flow) -> dict[str, object]:
    """What was opened for nothing: how much, of what class, by round, by group, by frame."""
    flow.db.execute(_FALSE)
    filtered = 0
    if flow.document["config"]["d_bit_filter"]:
        filtered = flow.row("SELECT count(*) AS n FROM false_dirty WHERE sent_ns IS NULL")["n"]
        flow.db.execute(_FILTERED)
    classes = flow.row(_CLASSES)
    same, by_round = flow.row(_SAME_BYTES), flow.rows(_BY_ROUND)
    flow.db.execute(f"CREATE TEMP TABLE group_totals AS {_BY_GROUP}")
    crossings = flow.rows(
        "SELECT rounds, count(*) AS groups FROM group_totals GROUP BY rounds ORDER BY rounds"
    )
    return {
        "total": sum(r["falsely_dirty"] for r in by_round),
        "filtered": filtered,
        **classes,
        "same_bytes": same["frames"],
        "same_bytes_bytes": same["bytes"],
        "by_round": by_round,
        "groups_by_crossings": crossings,
        "worst_groups": flow.rows(
            "FROM group_totals ORDER BY false_bytes DESC, falsely_dirty DESC, first_gfn LIMIT $top",
            top=_TOP,
        ),
        "worst_frames": flow.rows(_BY_FRAME, top=_TOP),
    }
