"""The flow by epoch: what became dirty between one clean and the next, and how.

`dirtied`  (epoch, gfn, time_ns, how): a frame's first real write in an epoch, as far as the
           tracker or the hardware saw it: 'fixup', 'first_write' (of an opened frame), 'logged'.
`opened`   (epoch, gfn, leader, time_ns, written_ns): frames that groups opened, and when they
           were first written in that epoch; NULL for never.
`crossed`  (gfn, time_ns, round, kind, changed, wire_bytes, epoch): sends with the epoch that
           made the frame dirty: the last one that a clean ended before them.
"""

from __future__ import annotations

from pageferry.analysis.flow import Flow

_CLEANS = """
CREATE TEMP TABLE cleans AS
SELECT time_ns, row_number() OVER (ORDER BY time_ns) AS epoch FROM moments WHERE kind = 'clean'
"""
_NUMBERED = """
CREATE TEMP VIEW numbered AS
SELECT e.time_ns, e.kind, e.gfn, e.leader, coalesce(c.epoch, 0) + 1 AS epoch
FROM (SELECT * FROM events WHERE kind IN ('fixup', 'opened', 'first_write', 'logged')) e
ASOF LEFT JOIN cleans c ON e.time_ns >= c.time_ns
"""
_DIRTIED = """
CREATE TEMP TABLE dirtied AS
SELECT epoch, gfn, min(time_ns) AS time_ns, arg_min(kind, time_ns) AS how
FROM numbered WHERE kind <> 'opened' GROUP BY epoch, gfn
"""
_OPENED = """
CREATE TEMP TABLE opened AS
SELECT o.epoch, o.gfn, o.leader, o.time_ns, d.time_ns AS written_ns
FROM (SELECT epoch, gfn, min(time_ns) AS time_ns, arg_min(leader, time_ns) AS leader
      FROM numbered WHERE kind = 'opened' GROUP BY epoch, gfn) o
LEFT JOIN dirtied d ON d.epoch = o.epoch AND d.gfn = o.gfn
"""
_CROSSED = """
CREATE TEMP TABLE crossed AS
SELECT s.*, coalesce(c.epoch, 0) AS epoch
FROM sends s ASOF LEFT JOIN cleans c ON s.time_ns >= c.time_ns
"""


def make_epochs(flow: Flow) -> None:
    """Make the tables that every question is asked of."""
    for statement in (_CLEANS, _NUMBERED, _DIRTIED, _OPENED, _CROSSED):
        flow.db.execute(statement)
