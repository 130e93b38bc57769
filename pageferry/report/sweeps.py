"""The report of a sweep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pageferry.report.flows import flow_sections, neighbour_charts
from pageferry.report.loads import load_tables
from pageferry.report.page import Section, page
from pageferry.report.pictures import causes, frontiers
from pageferry.report.predictions import prediction_section
from pageferry.report.provenance import run_sections
from pageferry.report.repeats import Repeated, repeated, surroundings
from pageferry.report.runs import runs_table
from pageferry.report.variants import compared
from pageferry.report.verdict import Verdict, verdict
from pageferry.results import BadResult
from pageferry.sweep.directory import existing
from pageferry.sweep.settings import SURROUNDINGS

_MAPS = 2
"""Flows that are drawn whole; of the others only the neighbour curves."""


def sweep_report(directory: Path) -> str:
    """The HTML of a sweep's results.

    Raises:
        BadResult: no sweep, or none of its points completed.
    """
    sweep = existing(directory)
    table = sweep.read_table()
    runs = compared(table)
    if not runs.num_rows:
        raise BadResult(
            f"no point of the sweep in {directory} completed; see the errors in its "
            "results.parquet, or run it"
        )
    rows = runs.to_pylist()
    alike = repeated(rows)
    sections = [
        *_by_load(alike),
        *_verdict(verdict(alike)),
        *_pictures(alike),
        *_flows(directory, alike),
        Section(
            "Every run",
            "Click on a heading to sort; the command repeats a run alone.",
            table=runs_table(table, runs),
        ),
        *run_sections(sweep.runs(), [json.loads(row["document"])["config"] for row in rows]),
    ]
    return page("Page groups: what the sweep says", _what_was_run(table, rows, alike), sections)


def _what_was_run(
    table: pa.Table, rows: Sequence[dict[str, Any]], alike: Sequence[Repeated]
) -> list[str]:
    loads = list(dict.fromkeys(run.load for run in alike))
    seeds = sorted({row["seed"] for row in rows})
    n_failed = table.num_rows - len(rows)
    said = f"{len(rows)} migrations, each verified; {n_failed} failed. " if n_failed else ""
    said = said or f"{len(rows)} migrations, each verified. "
    said += f"Loads: {', '.join(loads)}. "
    said += f"Seeds: {', '.join(map(str, seeds))}." if len(seeds) > 1 else f"Seed {seeds[0]}."
    named = {setting.name for setting in surroundings(rows)}
    same = [
        setting.show(rows[0][setting.name])
        for setting in SURROUNDINGS
        if setting.name not in named
        and any(map(setting.is_about, rows))
        and len({row[setting.name] for row in rows}) == 1
    ]
    return [said, f"The same in all of them: {', '.join(same)}."]


def _by_load(alike: Sequence[Repeated]) -> list[Section]:
    several = any(len(run.runs) > 1 for run in alike)
    note = (
        "What tracking cost the guest, on top of what it would have run, and what the network "
        "carried; × is against single pages of the same load in the same surroundings. “written of "
        "n” is the load's density: frames really written per aligned group of n in which any was, "
        "the mean over the rounds. In round brackets: what the same events cost with all prices "
        "low, and with all of them high."
    )
    if several:
        note += (
            " Runs that differ in nothing but their seed are one line: the mean, and between "
            "what they lie, in square brackets; × is the mean of each seed against its own single "
            "pages."
        )
    (first, table), *rest = load_tables(alike)
    return [
        Section(f"Load: {first}", note, table=table),
        *(Section(f"Load: {load}", table=table) for load, table in rest),
    ]


def _verdict(said: Verdict) -> list[Section]:
    sections = []
    if said.holds:
        sections.append(Section("What holds", sentences=said.holds))
    if said.exceptions:
        sections.append(Section("The exceptions, by name", sentences=said.exceptions))
    return sections


def _pictures(alike: Sequence[Repeated]) -> list[Section]:
    sections = []
    if drawn := frontiers(alike):
        sections.append(
            Section(
                "Faults against bytes",
                "Each load against its own single pages. Down and left is better: fewer fixup "
                "faults, fewer bytes on the wire. The line follows the fixed groups that were "
                "run, by their size; points are what could be done instead.",
                drawn,
            )
        )
    if drawn := causes(alike):
        sections.append(
            Section(
                "Slowdown by cause",
                "Guest time spent because of tracking, as a share of what the guest itself ran. "
                "Groups shrink the fixups; the rebuilding of shadows after each clean is what "
                "they cannot reach. With several seeds the bars are means, and a line spans "
                "what the runs add up to.",
                drawn,
            )
        )
    return sections


def _flows(directory: Path, alike: Sequence[Repeated]) -> list[Section]:
    """Neighbours, maps and rounds of the flows, and how good predictions were."""
    sections: list[Section] = []
    single, grouped = (_with_flow(directory, alike, grouped=each) for each in (False, True))
    by_load: dict[str, tuple[str, Path]] = {}
    for load, name, flow in single or grouped:
        by_load.setdefault(load, (name, flow))
    charts = [chart for name, flow in by_load.values() for chart in neighbour_charts(name, flow)]
    if charts:
        sections.append(
            Section(
                "Are neighbours of a dirtied frame dirtied soon?",
                "Of the frames at a distance that were clean when a frame was dirtied: how many "
                "became dirty in the same round, by distance and by delay. The dashed line is the "
                "chance of any frame.",
                charts,
            )
        )
    for _, name, flow in (grouped or single)[:_MAPS]:
        sections += flow_sections(flow, name)
    with_flow = [(name, flow) for _, name, flow in (*single, *grouped)]
    return sections + prediction_section(with_flow)


def _with_flow(
    directory: Path, alike: Sequence[Repeated], *, grouped: bool
) -> list[tuple[str, str, Path]]:
    """Load, name and directory of flows; those of recorded programs first."""
    found: list[tuple[bool, str, str, Path]] = []
    for group in alike:
        for run in group.runs:
            flow = directory / "flows" / run["point"]
            if (run["group_pages"] != 1) == grouped and (flow / "result.json").exists():
                seed = f", seed {run['seed']}" if len(group.runs) > 1 else ""
                name = f"{group.load}, {group.where}, {run['variant']}{seed}"
                found.append((not run["trace"], group.load, name, flow))
    return [(load, name, flow) for _, load, name, flow in sorted(found)]
