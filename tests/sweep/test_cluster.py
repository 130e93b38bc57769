"""A sweep on a real Dask scheduler with real workers, one of which dies in the middle."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pageferry.sweep import run_points
from pageferry.sweep.cluster import ClusterWorkers
from pageferry.sweep.directory import opened
from pageferry.sweep.table import Row
from pageferry.sweep.workers import LocalWorkers
from paging_core.errors import BadOption, HostUnreachable
from tests.pageferry.hosts import pageferry
from tests.sweep.small import point

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@contextmanager
def dask(*command: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *command], stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def said(process: subprocess.Popen[str], text: str) -> str:
    """What follows a text in the first line that holds it."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return line.split(text)[1].strip()
    raise AssertionError(f"never said {text!r}")


@contextmanager
def scheduler() -> Iterator[str]:
    with dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard") as process:
        yield said(process, "Scheduler at:")


@contextmanager
def worker(address: str) -> Iterator[subprocess.Popen[str]]:
    options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
    with dask("worker", address, *options) as process:
        said(process, "Registered to:")
        yield process


def test_the_same_table_though_a_worker_is_killed(tmp_path: Path) -> None:
    points = [point(group_pages=n, seed=seed) for n in (1, 8) for seed in range(4)]
    with opened(tmp_path / "local") as directory:
        run_points.run(points, directory, LocalWorkers(2), lambda _row: None)
    finished: list[Row] = []
    with scheduler() as address, worker(address) as first, worker(address):

        def told(row: Row) -> None:
            if not finished:
                first.kill()
            finished.append(row)

        with opened(tmp_path / "cluster") as directory, ClusterWorkers(address) as workers:
            run_points.run(points, directory, workers, told)
    assert len(finished) == len(points)
    tables = [pq.read_table(tmp_path / name / "results.parquet") for name in ("local", "cluster")]
    assert tables[0].equals(tables[1])
    assert set(tables[0]["status"].to_pylist()) == {"ok"}


def test_a_scheduler_that_goes_away_loses_nothing_finished(tmp_path: Path) -> None:
    points = [point(seed=seed) for seed in range(6)]
    with dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard") as process:
        address = said(process, "Scheduler at:")
        with worker(address), opened(tmp_path / "s") as directory:
            with (
                ClusterWorkers(address) as workers,
                pytest.raises(HostUnreachable, match=r"went away.*finished points are kept"),
            ):
                run_points.run(points, directory, workers, lambda _row: process.kill())
            assert 0 < directory.read_table().num_rows < len(points)


@pytest.mark.parametrize(
    ("address", "says"),
    [("tcp://127.0.0.1:1", "no Dask scheduler answers"), ("nonsense://x", "no address")],
)
def test_no_host_there(address: str, says: str) -> None:
    with pytest.raises((HostUnreachable, BadOption), match=says):
        ClusterWorkers(address)


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    done = pageferry(
        "sweep", "--workload", "idle", "--out", str(tmp_path / "s"), "--scheduler", "127.0.0.1:1"
    )
    assert done.returncode == 1
    assert "no Dask scheduler answers at 127.0.0.1:1" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
