"""Sweeps: nothing is lost, nothing is run twice, a point that fails fails alone."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pageferry import results
from pageferry.analysis.analysis import analyze
from pageferry.sweep import run_points
from pageferry.sweep.directory import SweepDirectory, existing, opened
from pageferry.sweep.model import model_digest
from pageferry.sweep.point import Point
from pageferry.sweep.table import SCHEMA, Row
from pageferry.sweep.work import Finished, Task, perform
from pageferry.sweep.workers import LocalWorkers
from paging_core.errors import AlreadyExists, BadOption, LimitExceeded
from tests.pageferry.hosts import children, interrupt, pageferry, running, wait_until_gone
from tests.sweep.small import CROWDED, arguments, point


class Here:
    """Workers in this very process, the last task first; counts what they ran."""

    def __init__(self, stop_after: int = 1000) -> None:
        self.ran: list[Task] = []
        self._stop_after = stop_after

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Finished]]:
        for index in reversed(range(len(tasks))):
            if len(self.ran) == self._stop_after:
                raise KeyboardInterrupt
            self.ran.append(tasks[index])
            yield index, perform(tasks[index])


def swept(
    points: list[Point], directory: SweepDirectory, workers: Here | LocalWorkers
) -> list[Row]:
    told: list[Row] = []
    run_points.run(run_points.unfinished(points, directory), directory, workers, told.append)
    return told


def test_a_row_says_what_the_document_of_its_point_says(tmp_path: Path) -> None:
    here = point(group_pages=8)
    with opened(tmp_path / "s") as directory:
        swept([here], directory, Here())
    table = pq.read_table(tmp_path / "s" / "results.parquet")
    assert table.schema.equals(SCHEMA)
    (row,) = table.to_pylist()
    document = json.loads(row["document"])
    results_file = tmp_path / "result.json"
    results_file.write_text(json.dumps(document))
    assert results.read(results_file) == document
    assert row["status"] == "ok"
    assert row["verified"]
    assert (row["load"], row["group_pages"], row["paging"]) == ("hotcold", 8, "shadow")
    assert row["bytes_wire"] == document["bytes"]["wire"]
    assert row["faults_fixup"] == document["faults"]["fixup"] > 0
    assert row["time_rebuild_ns"] == document["guest"]["time_ns"]["rebuild"] > 0
    assert row["pages_falsely_dirty"] == document["pages"]["falsely_dirty"]
    done = pageferry(*arguments(row["command"]), "--quiet", "--json", "-")
    assert json.loads(done.stdout) == document


def test_goes_on_where_it_was_stopped_and_runs_nothing_twice(tmp_path: Path) -> None:
    points = [point(group_pages=n, seed=s) for n in (1, 8) for s in (1, 2)]
    again = [*points, point(group_pages=1, seed=1, memory="4096KiB")]
    with opened(tmp_path / "s") as directory:
        with pytest.raises(KeyboardInterrupt):
            swept(points, directory, Here(stop_after=1))
        assert directory.read_table().num_rows == 1
        rest = Here()
        swept(again, directory, rest)
        assert len(rest.ran) == 3
        assert swept(again, directory, Here()) == []
    with opened(tmp_path / "whole") as whole:
        swept(points, whole, Here())
    first, second = (existing(tmp_path / name).read_table() for name in ("s", "whole"))
    assert first.equals(second)
    assert first["group_pages"].to_pylist() == [1, 1, 8, 8]  # repetitions beside each other
    assert first["seed"].to_pylist() == [1, 2, 1, 2]


def test_a_failed_point_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    bad, good = point(**CROWDED), point()
    with opened(tmp_path / "s") as directory:
        swept([bad, good], directory, LocalWorkers(2))
        rows = {row["point"]: row for row in directory.read_table().to_pylist()}
        assert rows[good.id]["status"] == "ok"
        assert rows[bad.id]["status"] == "failed"
        assert "found no free frame" in rows[bad.id]["error"]
        assert run_points.unfinished([bad, good], directory) == []
        assert run_points.unfinished([bad, good], directory, retry_failed=True) == [bad]


def test_a_worker_that_is_killed_takes_no_point_with_it(tmp_path: Path) -> None:
    points = [point(seed=seed) for seed in range(5)]
    killed: list[int] = []

    def told(_row: Row) -> None:
        if not killed:
            victim = multiprocessing.active_children()[0]
            killed.append(victim.pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    with opened(tmp_path / "s") as directory:
        run_points.run(points, directory, LocalWorkers(2), told)
        table = directory.read_table()
    assert killed
    assert sorted(table["point"].to_pylist()) == sorted(p.id for p in points)
    assert set(table["status"].to_pylist()) == {"ok"}


class Deadly:
    """Ends whatever process it is sent to."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (9,)


def test_a_point_that_kills_its_worker_fails_alone() -> None:
    tasks = [Task(point(seed=seed).options, model_digest()) for seed in range(3)]
    tasks.insert(1, Task(Deadly(), ""))  # type: ignore[arg-type]
    became = dict(LocalWorkers(2).run(tasks))
    assert "its worker process died" in became[1].error
    assert [became[i].error for i in (0, 2, 3)] == ["", "", ""]


def test_a_flow_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    plain, with_flow = point(), point(seed=2, flow=True)
    with opened(tmp_path / "s") as directory:
        swept([plain, with_flow], directory, Here())
        assert not directory.flow_of(plain).exists()
        manifest = json.loads((directory.flow_of(with_flow) / "flow.json").read_text())
        assert manifest["outcome"] == "completed"
        result = results.read(directory.flow_of(with_flow) / "result.json")
        said = json.loads((directory.flow_of(with_flow) / "predictions.json").read_text())
        assert said["config"]["seed"] == result["config"]["seed"] + 1  # of another run
        assert [each["model"] for each in said["predictions"]] == ["AVG", "HIST", "rehearsal"]
        # Asked for later, the point is run again: the flow is not there yet.
        later = point(flow=True)
        assert later.id == plain.id
        assert run_points.unfinished([later], directory) == [later]
        swept([later], directory, Here())
        assert (directory.flow_of(plain) / "flow.json").exists()


def test_what_a_killed_sweep_left_of_a_flow_is_removed(tmp_path: Path) -> None:
    with_flow = point(flow=True)
    with opened(tmp_path / "s") as directory:
        left = directory.flow_of(with_flow)
        left.mkdir(parents=True)
        (left / "events.parquet").write_bytes(b"half of it")
        (row,) = swept([with_flow], directory, Here())
        assert row["status"] == "ok", row["error"]
        record = json.loads((left / "run.json").read_text())
        assert record["xxh3_64"].keys() == {"flow.json", "result.json"}
        assert analyze(left)["saved"]["fixups"] > 0
        # Without the record nobody knows that the pair is whole: it is run again.
        (left / "run.json").unlink()
        assert run_points.unfinished([with_flow], directory) == [with_flow]


def test_another_version_of_the_model_is_not_mixed_in(tmp_path: Path) -> None:
    with opened(tmp_path / "s") as directory:
        swept([point()], directory, Here())
    manifest = tmp_path / "s" / "sweep.json"
    manifest.write_text(manifest.read_text().replace('"model": "', '"model": "0'))
    with pytest.raises(BadOption, match="another version"), opened(tmp_path / "s"):
        pass
    assert "install the same" in perform(Task(point().options, "0")).error


def test_two_sweeps_do_not_share_a_directory_at_a_time(tmp_path: Path) -> None:
    with (
        opened(tmp_path / "s"),
        pytest.raises(AlreadyExists, match="another process"),
        opened(tmp_path / "s"),
    ):
        pass
    with opened(tmp_path / "s"):
        pass


def test_what_is_no_sweep_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(BadOption, match="no sweep"), opened(tmp_path):
        pass
    with pytest.raises(BadOption, match="is a file"), opened(tmp_path / "precious"):
        pass
    with pytest.raises(results.BadResult, match="not a sweep"):
        existing(tmp_path)


def test_a_full_disk_ends_it_and_leaves_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [point(seed=seed) for seed in range(3)]
    write, wrote = Path.write_text, []

    def fills_up(path: Path, text: str) -> int:
        wrote.append(path)
        if len(wrote) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, text)

    with opened(tmp_path / "s") as directory:
        monkeypatch.setattr(Path, "write_text", fills_up)
        with pytest.raises(LimitExceeded, match=r"No space left.*finished points are kept"):
            swept(points, directory, Here())
        monkeypatch.undo()
        assert existing(tmp_path / "s").read_table().num_rows == 1
        rest = Here()
        swept(points, directory, rest)
    assert len(rest.ran) == 2


def test_ctrl_c_stops_it_and_the_same_command_goes_on(tmp_path: Path) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text(
        'memory = "64MiB"\nworkload = "uniform:wss=32MiB,write_rate=1M"\n'
        "seed = [1, 2, 3, 4, 5, 6, 7, 8]\n"
    )
    out = tmp_path / "out"
    command = ["sweep", str(grid), "--out", str(out), "--jobs", "2"]
    with running(*command) as process:
        while not list(out.glob("points/*.json")):
            assert process.poll() is None
        started = children(process.pid)
        interrupt(process)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert "the same command goes on from here" in process.stderr.read()
    wait_until_gone(started)
    before = existing(out).read_table()
    assert 0 < before.num_rows < 8
    done = pageferry(*command, "--seed", "1,2")
    assert done.returncode == 0, done.stderr
    after = existing(out).read_table()
    assert set(before["point"].to_pylist()) <= set(after["point"].to_pylist())
