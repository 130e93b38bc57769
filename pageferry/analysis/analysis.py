"""All that a flow answers, as one document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pageferry.analysis.epochs import make_epochs
from pageferry.analysis.flow import Flow, open_flow
from pageferry.analysis.group_size import group_sizes
from pageferry.analysis.groups import FULL, false_dirties, saved
from pageferry.analysis.neighbours import neighbours, working_set
from pageferry.results import BadResult

SCHEMA = {"name": "pageferry.analysis", "version": 1}

Analysis = dict[str, Any]
"""docs/analysis.md explains every field."""


def analyze(directory: Path) -> Analysis:
    """Ask a flow everything.

    Raises:
        BadResult: no flow, an incomplete one, of another version, or without its result.
    """
    with open_flow(directory) as flow:
        make_epochs(flow)
        return analysis_of(flow)


def write_tables(directory: Path, target: Path) -> list[Path]:
    """Answers in full, as Parquet: every frame, every group, every round.

    Args:
        directory: of the flow.
        target: directory to write to; made if it is not there.

    Returns:
        The files.

    Raises:
        BadResult: see `analyze`; or the target cannot be written.
    """
    with open_flow(directory) as flow:
        make_epochs(flow)
        analysis_of(flow)
        return [_write(flow.table(sql), target / f"{name}.parquet") for name, sql in FULL.items()]


def _write(table: pa.Table, file: Path) -> Path:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file, compression="zstd")
    except OSError as error:
        raise BadResult(
            f"cannot write {file}: {error.strerror or error}; name another directory"
        ) from error
    return file


def analysis_of(flow: Flow) -> Analysis:
    """The analysis of a flow whose epochs were made."""
    return {
        "schema": SCHEMA,
        "config": flow.document["config"],
        "saved": saved(flow),
        "false_dirties": false_dirties(flow),
        "slowdown": _slowdown(flow),
        "neighbours": neighbours(flow),
        "working_set": working_set(flow),
        "group_size": group_sizes(flow),
    }


def _slowdown(flow: Flow) -> dict[str, Any]:
    """Tracking time by cause, and the two sides of the first objection."""
    guest = flow.document["guest"]
    by_cause = {cause: ns for cause, ns in guest["time_ns"].items() if cause != "base"}
    tracking_ns = sum(by_cause.values())
    return {
        "slowdown": guest["slowdown"],
        "base_ns": guest["time_ns"].get("base"),
        "tracking_ns": tracking_ns,
        "by_cause_ns": by_cause,
        "largest": max(by_cause, key=lambda cause: by_cause[cause]) if tracking_ns else None,
    }
