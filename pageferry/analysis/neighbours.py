"""How true is it that the neighbours of a dirtied frame will be dirtied soon?

For every frame that became dirty, and every distance: was the frame so far away clean at that
moment (else a group would not have opened it), and did it become dirty later in the same epoch,
and how much later? The chance of any frame to become dirty in an epoch stands beside it.
"""

from __future__ import annotations

from typing import Any

from pageferry.analysis.flow import Flow

DISTANCES = tuple(1 << i for i in range(10))
DELAYS_MS = (0.1, 1.0, 10.0, 100.0)
WINDOWS_MS = (0.1, 1.0, 10.0, 100.0, 1000.0)

_AT_DISTANCE = """
SELECT count(*) AS clean_neighbours,
       count(b.time_ns) AS in_epoch,
       {within}
FROM (SELECT epoch, gfn, time_ns, gfn + s.d AS other FROM dirtied,
      (SELECT unnest([{distance}, -{distance}]) AS d) s
      WHERE gfn + s.d BETWEEN 0 AND {last}) a
LEFT JOIN dirtied b ON b.epoch = a.epoch AND b.gfn = a.other
WHERE b.time_ns IS NULL OR b.time_ns > a.time_ns
"""


def neighbours(flow: Flow) -> dict[str, Any]:
    """The chance that a clean neighbour is dirtied too, by distance and by delay."""
    epochs = flow.row("SELECT count(DISTINCT epoch) AS epochs, count(*) AS dirtied FROM dirtied")
    whole = epochs["epochs"] * flow.n_frames
    return {
        "baseline": epochs["dirtied"] / whole if whole else 0.0,
        "by_distance": [_at(flow, distance) for distance in DISTANCES],
    }


def _at(flow: Flow, distance: int) -> dict[str, Any]:
    within = ", ".join(
        f"count(*) FILTER (b.time_ns - a.time_ns <= {int(ms * 1e6)}) AS within_{i}"
        for i, ms in enumerate(DELAYS_MS)
    )
    row = flow.row(_AT_DISTANCE.format(distance=distance, last=flow.n_frames - 1, within=within))
    clean = row["clean_neighbours"]
    return {
        "distance": distance,
        "clean_neighbours": clean,
        "in_epoch": _share(row["in_epoch"], clean),
        "within_ms": {str(ms): _share(row[f"within_{i}"], clean) for i, ms in enumerate(DELAYS_MS)},
    }


def working_set(flow: Flow) -> list[dict[str, Any]]:
    """The writable working set: distinct frames dirtied per window, over the whole migration.

    A tracker sees a frame's first write in an epoch only, so windows longer than an epoch
    are a lower bound.
    """
    span = flow.row("SELECT max(time_ns) - min(time_ns) AS ns FROM moments")["ns"]
    found = []
    for ms in WINDOWS_MS:
        row = flow.row(
            "SELECT sum(frames) / ceil($span / $w) AS mean, max(frames) AS most "
            "FROM (SELECT time_ns // $w AS win, count(DISTINCT gfn) AS frames "
            "FROM dirtied GROUP BY win)",
            w=int(ms * 1e6),
            span=max(span, 1),
        )
        if ms * 1e6 <= span:
            found.append(
                {"window_ms": ms, "mean": float(row["mean"] or 0), "most": row["most"] or 0}
            )
    return found


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
