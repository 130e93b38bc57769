"""A flow and its result belong together, and nothing that is there is ever written over."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pageferry import in_process, results
from pageferry.analysis.analysis import analyze
from pageferry.cli.main import main
from pageferry.flow_directory import claimed, seal
from pageferry.request import MigrationOptions
from pageferry.results import BadResult
from pageferry.run_record import record
from paging_core.errors import BadOption

WORKLOAD = "hotcold:wss=1MiB,write_rate=1M"


def recorded_flow(directory: Path, seed: int = 0) -> Path:
    """A finished flow, as `pageferry migrate --flow` leaves it."""
    options = MigrationOptions.of(memory_bytes=4 << 20, workload=WORKLOAD, seed=seed)
    with claimed(directory):
        document = in_process.run(options.but(flow=str(directory)))
        seal(directory, document, record("pageferry migrate"))
    return directory


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("flows")
    return recorded_flow(place / "one"), recorded_flow(place / "two", seed=1)


@pytest.fixture
def flow(flows: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(flows[0], tmp_path / "flow"))


def content(place: Path) -> dict[str, bytes]:
    return {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}


def edited(path: Path, change: Callable[[Any], None]) -> None:
    read = json.loads(path.read_text())
    change(read)
    path.write_text(json.dumps(read))


def test_a_whole_flow_is_read(flow: Path) -> None:
    assert analyze(flow)["saved"]["fixups"] > 0


def slower(document: Any) -> None:
    document["guest"]["slowdown"] += 1


def ended(document: Any, outcome: str) -> None:
    error = {"status": "INTERNAL", "message": "the link broke"}
    document.update(outcome=outcome, error=error)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def one_row_changed(path: Path) -> None:
    """As many rows, of the same types: only a digest tells."""
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 1).cast(table.schema).take([0] * table.num_rows), path)


ATTACKS: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "result of another run": (
        lambda flow, other: shutil.copy(other / "result.json", flow),
        "result.json is not the one that was written with this flow",
    ),
    "flow of another run": (
        lambda flow, other: [shutil.copy(p, flow) for p in other.iterdir() if p.suffix == ".parquet"
                             or p.name == "flow.json"],
        "flow.json is not the one",
    ),
    "tables of another run": (
        lambda flow, other: [shutil.copy(p, flow) for p in other.glob("*.parquet")],
        "not the table that its manifest says",
    ),
    "edited result": (
        lambda flow, _: edited(flow / "result.json", slower), "result.json is not the one"
    ),
    "edited manifest": (
        lambda flow, _: edited(flow / "flow.json", lambda m: m.update(note="mine")),
        "flow.json is not the one",
    ),
    "manifest without digests": (
        lambda flow, _: edited(flow / "flow.json", lambda m: m.pop("xxh3_64")),
        "not the table that its manifest says",
    ),
    "truncated table": (lambda flow, _: cut(flow / "sends.parquet"), "missing or damaged"),
    "changed table": (
        lambda flow, _: one_row_changed(flow / "events.parquet"),
        "not the table that its manifest says",
    ),
    "no result": (lambda flow, _: (flow / "result.json").unlink(), "result.json is missing"),
    "no manifest": (lambda flow, _: (flow / "flow.json").unlink(), "its migration was killed"),
    "damaged record": (lambda flow, _: (flow / "run.json").write_text("{}"), "no record of a run"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_does_not_belong_together_is_refused(
    attack: str, flows: tuple[Path, Path], flow: Path
) -> None:
    change, says = ATTACKS[attack]
    change(flow, flows[1])
    with pytest.raises(BadResult, match=says):
        analyze(flow)
    for command in ("analyze", "report"):
        said = CliRunner().invoke(main, [command, str(flow)])
        assert said.exit_code == 2, said.output
        (line,) = said.stderr.splitlines()
        assert line.startswith("error: ")
    assert not (flow / "report.html").exists()


def test_without_its_record_the_numbers_are_held_against_each_other(
    flows: tuple[Path, Path], flow: Path
) -> None:
    (flow / "run.json").unlink()
    assert analyze(flow)  # as of hosts elsewhere
    shutil.copy(flows[1] / "result.json", flow)
    with pytest.raises(BadResult, match="is of another migration"):
        analyze(flow)


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_a_run_that_did_not_complete_answers_nothing(flow: Path, outcome: str) -> None:
    (flow / "run.json").unlink()
    edited(flow / "result.json", lambda document: ended(document, outcome))
    with pytest.raises(BadResult, match=f"ended {outcome}: 'the link broke'.*empty directory"):
        analyze(flow)


def test_a_result_that_ended_otherwise_than_its_flow(flow: Path) -> None:
    (flow / "run.json").unlink()
    edited(flow / "flow.json", lambda m: m.update(outcome="failed"))
    with pytest.raises(BadResult, match="that one ended 'failed'"):
        analyze(flow)


def refused(*arguments: str) -> str:
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == 2, said.output
    (line,) = said.stderr.splitlines()
    return line


def places(flow: Path) -> list[tuple[list[str], str]]:
    """What is asked for, and why not."""
    file = str(flow / "sends.parquet")
    return [
        (["migrate", "--flow", str(flow)], "is not empty"),
        (["migrate", "--flow", file], "is no directory"),
        (["migrate", "--flow", f"{file}/deeper/flow"], "is no directory"),
        (["migrate", "--flow", "a" * 300], "cannot be used"),
        (["migrate", "--json", str(flow)], "it is a directory"),
        (["migrate", "--json", f"{file}/result.json"], "is a file"),
        (["migrate", "--json", str(flow / "result.json")], "part of the flow"),
        (["migrate", "--json", file], "part of the flow"),
        (["predict", "--json", str(flow / "flow.json")], "part of the flow"),
        (["analyze", str(flow), "--json", str(flow / "run.json")], "part of the flow"),
        (["analyze", str(flow), "--tables", file], "is no directory"),
        (["report", str(flow), "--out", str(flow / "result.json")], "part of the flow"),
        (["demo", "--out", f"{file}/demo"], "is no directory"),
        (["sweep", "--seed", "1", "--out", str(flow)], "holds something that is no sweep"),
        (["sweep", "--seed", "1", "--out", file], "is a file"),
        (["sweep", "--seed", "1", "--out", f"{file}/sweep"], "is no directory"),
        (["costs", "--json", str(flow)], "it is a directory"),
        (["workloads", "--json", f"{file}/w.json"], "is a file"),
        (["migrate", "--fail-if", "overhed > 1%"], "did you mean overhead"),
        (["sweep", "--seed", "1", "--out", str(flow / "s"), "--fail-if", "x"], "is no condition"),
    ]


def test_what_cannot_be_written_is_refused_and_nothing_is_touched(flow: Path) -> None:
    before = content(flow.parent)
    for arguments, says in places(flow):
        assert says in refused(*arguments), arguments
    assert content(flow.parent) == before
    assert sorted(p.name for p in flow.parent.iterdir()) == ["flow"]


def test_a_directory_is_one_process_s_at_a_time(tmp_path: Path) -> None:
    with claimed(tmp_path / "new"):
        with pytest.raises(BadOption, match="another process"), claimed(tmp_path / "new"):
            pass
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists(), "nothing came to it"
    (tmp_path / "mine").mkdir()
    with claimed(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir(), "it was there before"
    held = os.open(tmp_path / "mine", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        assert "another process" in refused("migrate", "--flow", str(tmp_path / "mine"))
    finally:
        os.close(held)


def test_a_result_is_never_put_beside_the_flow_of_another(flow: Path, tmp_path: Path) -> None:
    before = content(flow)
    seal(flow, results.read(flow / "result.json"), record("again"))
    assert content(flow) == before
    (tmp_path / "empty").mkdir()
    seal(tmp_path / "empty", results.read(flow / "result.json"), record("nothing was recorded"))
    assert list((tmp_path / "empty").iterdir()) == []
