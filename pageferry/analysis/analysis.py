"""All that a flow trace answers, as one document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pageferry.analysis.epochs import make_epochs
from pageferry.analysis.group_size import group_sizes
from pageferry.analysis.groups import FULL, false_dirties, saved
from pageferry.analysis.neighbours import neighbours, working_set
from pageferry.analysis.trace import FlowTrace, flow_trace
from pageferry.results import BadResult

SCHEMA = {"name": "pageferry.analysis", "version": 1}

Analysis = dict[str, Any]
"""docs/analysis.md explains every field."""


def analyze(directory: Path) -> Analysis:
    """Ask a flow trace everything.

    Raises:
        BadResult: no trace, an incomplete one, of another version, or without its result.
    """
    with flow_trace(directory) as trace:
        make_epochs(trace)
        return analysis_of(trace)


def write_tables(directory: Path, target: Path) -> list[Path]:
    """Answers in full, as Parquet: every frame, every group, every round.

    Args:
        directory: of the flow trace.
        target: directory to write to; made if it is not there.

    Returns:
        The files.

    Raises:
        BadResult: see `analyze`; or the target cannot be written.
    """
    with flow_trace(directory) as trace:
        make_epochs(trace)
        analysis_of(trace)
        return [_write(trace.table(sql), target / f"{name}.parquet") for name, sql in FULL.items()]


def _write(table: pa.Table, file: Path) -> Path:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file, compression="zstd")
    except OSError as error:
        raise BadResult(
            f"cannot write {file}: {error.strerror or error}; name another directory"
        ) from error
    return file


def analysis_of(trace: FlowTrace) -> Analysis:
    """The analysis of a trace whose epochs were made."""
    return {
        "schema": SCHEMA,
        "config": trace.document["config"],
        "saved": saved(trace),
        "false_dirties": false_dirties(trace),
        "slowdown": _slowdown(trace),
        "neighbours": neighbours(trace),
        "working_set": working_set(trace),
        "group_size": group_sizes(trace),
    }


def _slowdown(trace: FlowTrace) -> dict[str, Any]:
    """Tracking time by cause, and the two sides of the first objection."""
    guest = trace.document["guest"]
    by_cause = {cause: ns for cause, ns in guest["time_ns"].items() if cause != "base"}
    tracking_ns = sum(by_cause.values())
    return {
        "slowdown": guest["slowdown"],
        "base_ns": guest["time_ns"]["base"],
        "tracking_ns": tracking_ns,
        "by_cause_ns": by_cause,
        "largest": max(by_cause, key=lambda cause: by_cause[cause]) if tracking_ns else None,
    }
