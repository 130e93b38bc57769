"""`pageferry migrate --flow DIR`: what the flow says adds up to what the result says."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.pageferry.hosts import SMALL, pageferry


@pytest.mark.parametrize(
    "tracker",
    [
        ["--group-pages", "8"],
        ["--paging", "hap", "--pml"],
        ["--group-pages", "32", "--policy", "xen-2009", "--no-suppress"],
    ],
    ids=" ".join,
)
def test_the_flow_adds_up_to_the_result(tmp_path: Path, tracker: list[str]) -> None:
    flow, target = tmp_path / "flow", tmp_path / "result.json"
    done = pageferry(
        "migrate", *SMALL, *tracker, "--flow", str(flow), "--json", str(target), "--no-progress"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(target.read_text())
    events, sends, moments = (
        pq.read_table(flow / f"{name}.parquet") for name in ("events", "sends", "moments")
    )
    assert json.loads((flow / "flow.json").read_text())["outcome"] == "completed"

    faults = events.filter(pc.equal(events["kind"], "fault"))
    assert faults.num_rows == result["faults"]["total"]
    fixups = pc.sum(pc.equal(events["kind"], "fixup")).as_py()
    assert fixups == result["faults"]["fixup"]
    for kind in ("data", "zero"):
        assert pc.sum(pc.equal(sends["kind"], kind)).as_py() == result["pages"][kind]
    assert sends.num_rows == result["pages"]["sent"]
    assert pc.count_distinct(sends["gfn"]).as_py() == result["pages"]["unique"]
    cleans = moments.filter(pc.equal(moments["kind"], "clean"))
    assert (pc.sum(cleans["falsely_dirty"]).as_py() or 0) == result["pages"]["falsely_dirty"]
    by_round = written_by_round(events, cleans["time_ns"].to_pylist())
    told_rounds = [r for r in result["rounds"] if not r["stop_and_copy"]]
    assert [len(gfns) for gfns in by_round] == [r["written"] for r in told_rounds]
    for n in (4, 16, 64, 512):
        densities = [len(gfns) / len({gfn // n for gfn in gfns}) for gfns in by_round if gfns]
        assert result["density"][str(n)] == pytest.approx(sum(densities) / len(densities))
    empty = 200  # a message that only ends its round has no frame to be told of
    told = pc.sum(sends["wire_bytes"].cast("float64")).as_py()
    assert 0 <= result["bytes"]["wire"] - told + 1 < empty
    assert pc.sum(pc.invert(sends["changed"])).as_py() >= result["pages"]["suppressed"]


def written_by_round(events: pa.Table, cleans: list[int]) -> list[set[int]]:
    """The frames with a true write before each clean; two cleans at one pause are one round's."""
    kinds = {"fixup", "logged", "first_write"}
    rows = zip(*(events[name].to_pylist() for name in ("time_ns", "kind", "gfn")), strict=True)
    writes = [(time_ns, gfn) for time_ns, kind, gfn in rows if kind in kinds]
    bounds = [0, *cleans]
    return [
        {gfn for time_ns, gfn in writes if begin < time_ns <= end}
        for begin, end in pairwise(bounds)
    ]


def test_the_result_is_the_same_with_and_without(tmp_path: Path) -> None:
    written = []
    for options in ([], ["--flow", str(tmp_path / "flow")]):
        done = pageferry("migrate", *SMALL, *options, "--quiet", "--json", "-")
        assert done.returncode == 0, done.stderr
        written.append(done.stdout)
    assert written[0] == written[1]


def test_a_host_that_was_not_told_where_writes_no_flows(tmp_path: Path, hosts: list[str]) -> None:
    done = pageferry("migrate", *hosts, *SMALL, "--flow", str(tmp_path / "flow"), "--no-progress")
    assert done.returncode == 1
    assert "start the host with --flow-dir" in done.stderr
    assert done.stderr.count("\n") <= 2


def test_a_directory_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    done = pageferry("migrate", *SMALL, "--flow", str(tmp_path), "--no-progress")
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert (tmp_path / "mine").read_text() == "precious"
