"""The page about the recorded programs says what their files hold, counted again from the rows."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

TRACES = Path(__file__).parents[2] / "examples" / "traces"
WRITTEN = b"pageferry.written-pages"
MOST_BYTES = 20 << 20


def files() -> list[Path]:
    found = sorted(TRACES.glob("*.parquet"))
    return [path for path in found if WRITTEN in pq.read_schema(path).metadata]


def told(columns: int = 6) -> dict[str, list[str]]:
    """The cells of the page's table of recordings with so many columns, by file."""
    lines = (TRACES / "README.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    rows = [row for row in rows if len(row) == columns]
    return {row[0]: row[1:] for row in rows if (TRACES / f"{row[0]}.parquet") in files()}


def test_all_of_them_are_told_of_and_small() -> None:
    assert {path.stem for path in files()} == set(told())
    assert sum(path.stat().st_size for path in TRACES.glob("*.parquet")) <= MOST_BYTES


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_the_table_says_what_the_rows_say(path: Path) -> None:
    pages_told, rate_told, density_told, _, _ = told()[path.stem]
    rows = pq.read_table(path, columns=["window_start_ns", "window_end_ns", "page"])
    windows: dict[int, set[int]] = defaultdict(set)
    columns = (rows[name].to_pylist() for name in ("window_start_ns", "page"))
    for start, page in zip(*columns, strict=True):
        windows[start].add(page)
    every = set().union(*windows.values())
    assert pages_told == f"{len(every):,}"
    densities = []
    for n in (4, 16, 64, 512):
        groups = sum(len({page // n for page in pages}) for pages in windows.values())
        densities.append(sum(map(len, windows.values())) / groups)
    assert density_told == " / ".join(f"{each:.1f}" for each in densities)
    written = sum(map(len, windows.values())) * 4096
    assert float(rate_told.removesuffix(" MB/s")) == pytest.approx(
        written / 1e6 / (max(rows["window_end_ns"].to_pylist()) / 1e9), rel=0.05, abs=0.1
    )


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_the_lengths_of_windows_and_the_rate_that_was_reached(path: Path) -> None:
    _, rate_told, lengths_told = told(4)[path.stem]
    rows = pq.read_table(path, columns=["window_start_ns", "window_end_ns"]).to_pydict()
    windows = set(zip(rows["window_start_ns"], rows["window_end_ns"], strict=True))
    lengths = sorted((end - start) / 1e6 for start, end in windows)
    middle, most, longest = lengths_told.split(" / ")
    assert float(middle) == pytest.approx(lengths[len(lengths) // 2], abs=0.1)
    assert float(most) == pytest.approx(lengths[len(lengths) * 95 // 100], abs=0.8)
    assert longest == f"{lengths[-1]:.0f}"
    how = json.loads(pq.read_schema(path).metadata[WRITTEN])["how"]
    assert rate_told in (*how.split("; "), "nothing asked")


def test_no_path_of_a_machine_is_in_them() -> None:
    for path in files():
        about = pq.read_schema(path).metadata[WRITTEN].decode()
        assert "/tmp" not in about  # noqa: S108
        assert "/home" not in about
        assert ".venv" not in about
