"""The flow on disk: whole, incomplete, refused, and when the disk is full."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import xxhash

from paging_core.errors import BadOption, InvariantViolation, LimitExceeded
from paging_core.events import Fault
from paging_core.flow import FLOW_DTYPE, FlowKind
from source_host.watch.flow_files import FLOW_SCHEMA, MANIFEST, TABLES, FlowFiles
from source_host.watch.flow_recorder import FlowRecorder
from wire.batch import Batch
from wire.runs import FrameKind, FrameRuns


def batch(gfns: list[int], kinds: list[FrameKind]) -> Batch:
    return Batch(0, 3, FrameRuns.of(np.array(gfns), np.array(kinds, np.uint8)))


def test_what_was_told_stands_in_the_files(tmp_path: Path) -> None:
    flow = FlowRecorder(tmp_path / "flow")
    rows = np.zeros(3, FLOW_DTYPE)
    rows["time_ps"] = [1_999, 2_000, 3_000]
    rows["kind"] = [FlowKind.FAULT, FlowKind.OPENED, FlowKind.SHADOW_DROPPED]
    rows["detail"] = [Fault.WRITE_PROTECT, 0, 3]
    rows["gfn"], rows["leader"], rows["space"] = [7, 8, 9], [7, 7, 9], [0, 2, 1]
    flow.events(rows)
    rows["gfn"] = 0  # the guest uses its buffer again
    flow.sent(5, batch([4, 5, 9], [FrameKind.DATA, FrameKind.UNCHANGED, FrameKind.DATA]),
              np.array([True, False, True]), 300)  # fmt: skip
    flow.moment("clean", 6, 3, 11, 2)
    flow.finish("completed")
    events, sends, moments = (
        pq.read_table(tmp_path / "flow" / f"{name}.parquet").to_pylist() for name in TABLES
    )
    columns = ("time_ns", "kind", "detail", "gfn", "leader", "space")
    assert [tuple(event[name] for name in columns) for event in events] == [
        (1, "fault", "write_protect", 7, 7, 0),
        (2, "opened", "none", 8, 7, 2),
        (3, "shadow_dropped", "l2", 9, 9, 1),
    ]
    assert [(s["gfn"], s["kind"], s["changed"], s["wire_bytes"]) for s in sends] == [
        (4, "data", True, 150.0),
        (5, "unchanged", False, 0.0),
        (9, "data", True, 150.0),
    ]
    assert {(s["time_ns"], s["round"]) for s in sends} == {(5, 3)}
    assert moments == [
        {"time_ns": 6, "kind": "clean", "round": 3, "frames": 11, "falsely_dirty": 2}
    ]
    manifest = json.loads((tmp_path / "flow" / MANIFEST).read_text())
    assert manifest == {
        "schema": FLOW_SCHEMA,
        "outcome": "completed",
        "rows": {"events": 3, "sends": 3, "moments": 1},
        "xxh3_64": {
            name: xxhash.xxh3_64_hexdigest((tmp_path / "flow" / f"{name}.parquet").read_bytes())
            for name in TABLES
        },
    }


def test_a_batch_without_content_is_paid_by_all_of_it(tmp_path: Path) -> None:
    flow = FlowRecorder(tmp_path / "flow")
    flow.sent(0, batch([1, 2], [FrameKind.ZERO, FrameKind.ZERO]), np.ones(2, bool), 50)
    flow.sent(0, batch([], []), np.ones(0, bool), 50)
    flow.finish("completed")
    sends = pq.read_table(tmp_path / "flow" / "sends.parquet")
    assert sends["wire_bytes"].to_pylist() == [25.0, 25.0]


def test_a_flow_that_was_not_finished_has_no_manifest(tmp_path: Path) -> None:
    flow = FlowRecorder(tmp_path / "flow")
    flow.moment("clean", 6, 3)
    flow.stop()
    assert not (tmp_path / "flow" / MANIFEST).exists()


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(BadOption, match="empty directory"):
        FlowRecorder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LimitExceeded, match="cannot write the flow"):
        FlowRecorder(tmp_path / "file" / "flow")


def test_a_bug_while_writing_ends_the_run_and_not_the_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(FlowFiles, "append", broken)
    flow = FlowRecorder(tmp_path / "flow")
    with pytest.raises(InvariantViolation, match="ZeroDivisionError"):
        tell_much(flow)


def tell_much(flow: FlowRecorder) -> None:
    for number in range(1000):
        flow.moment("clean", number, 1)


_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from paging_core.errors import LimitExceeded
from paging_core.flow import FLOW_DTYPE
from source_host.watch.flow_recorder import FlowRecorder

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
flow = FlowRecorder(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
rng = np.random.default_rng(0)
rows = np.zeros(1 << 16, FLOW_DTYPE)
try:
    for _ in range(64):
        rows["gfn"] = rng.integers(0, 2**30, len(rows))
        flow.events(rows)
    flow.finish("completed")
except LimitExceeded as error:
    print(error)
"""


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path / "flow")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "cannot write the flow" in done.stdout, done.stderr
    assert "make room" in done.stdout
    assert not (tmp_path / "flow" / MANIFEST).exists()
