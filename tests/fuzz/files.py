"""Files that people keep and give to each other."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

from rich.console import Console

from pageferry import results
from pageferry.analysis.analysis import analyze
from pageferry.analysis.sentences import conclusions
from pageferry.analysis.tables import tables
from pageferry.cli.axes import options_of
from pageferry.comparison import labels
from pageferry.settings import AXES
from pageferry.sweep.grid import read_grids
from pageferry.tables import rounds, summary
from paging_core.costs import CostTable
from source_host.watch.flow_files import MANIFEST, TABLES
from tests.fuzz.refusals import placed, refusals, scratch

_MOST_POINTS = 50
BETWEEN = b"\n--pageferry-fuzz--\n"
"""Between the files of a directory."""
FLOW = (MANIFEST, "result.json", *(f"{table}.parquet" for table in TABLES))
"""The files of a flow, in the order in which an input has them."""


def grid(data: bytes) -> None:
    """The first points of a grid become options, or say what cannot be."""
    path = placed(data, "grid.toml")
    with refusals():
        for each in read_grids(path, tuple(AXES)):
            for settings in itertools.islice(each.combinations(), _MOST_POINTS):
                with refusals():
                    options_of(settings, path.parent).guest_config()


def result(data: bytes) -> None:
    """What is read as a result can be shown beside itself."""
    path = placed(data, "result.json")
    with refusals():
        document = results.read(path)
        console = Console(file=io.StringIO(), width=100)
        console.print(rounds(document["rounds"]))
        console.print(summary([document] * 2, labels([document] * 2, ["one", "two"])))


def costs(data: bytes) -> None:
    """A table of costs has a price for every event."""
    with refusals():
        CostTable.from_toml(placed(data, "costs.toml")).as_picoseconds()


def flow(data: bytes) -> None:
    """What is read as a flow can be analysed."""
    directory = scratch() / "flow"
    directory.mkdir(exist_ok=True)
    parts = data.split(BETWEEN)
    for name, part in itertools.zip_longest(FLOW, parts[: len(FLOW)]):
        _write(directory / name, part)
    with refusals():
        analysis = analyze(directory)
        conclusions(analysis)
        tables(analysis)


def _write(path: Path, content: bytes | None) -> None:
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
