"""A destination takes a guest only if it has the very trace that the guest replays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from paging_core.config import GuestConfig, MemoryFill, TrackerConfig
from paging_core.costs import CostTable
from paging_core.errors import BadOption, BadTrace, InvalidInput
from paging_core.model_guest import ModelGuest
from paging_core.traces.reader import TraceFile
from tests.paging_core.lackey_reference import import_text
from wire.hosting.guests.kinds import Kinds

MIB = 2**20


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A trace as it lies on the source."""
    (tmp_path / "source").mkdir()
    file = tmp_path / "source" / "some.parquet"
    import_text("I  00001000,3\n S 00002000,8\n", file)
    return file


def prepare(trace: Path, folder: Path | None) -> None:
    config = GuestConfig(MIB, workload="", trace=str(trace))
    Kinds(trace_dir=folder).prepare(config, TraceFile(str(trace)).digest)


def test_the_same_trace_is_taken_wherever_it_lies(trace: Path, tmp_path: Path) -> None:
    prepare(trace, None)
    copy = tmp_path / "dest" / trace.name
    copy.parent.mkdir()
    copy.write_bytes(trace.read_bytes())
    prepare(trace, copy.parent)


def test_a_trace_that_is_missing_is_told_from_another_one(trace: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dest"
    folder.mkdir()
    with pytest.raises(BadTrace, match=r"on the destination: .*No such file.*--trace-dir"):
        prepare(trace, folder)
    import_text("I  00001000,3\n S 00003000,8\n", folder / trace.name)
    with pytest.raises(BadTrace, match=r"on the destination: .*another one than was expected"):
        prepare(trace, folder)


ANNOUNCED = GuestConfig(4 * MIB, workload="idle")
SMUGGLED = {
    "seed": replace(ANNOUNCED, seed=1),
    "workload": replace(ANNOUNCED, workload="uniform:wss=1MiB"),
    "fill": replace(ANNOUNCED, fill=MemoryFill.ZERO),
    "tracker": replace(ANNOUNCED, tracker=TrackerConfig(tlb_entries=2**20)),
    "costs": replace(ANNOUNCED, costs=CostTable({"fixup": 1.0})),
}


def test_what_was_announced_is_taken() -> None:
    there = ModelGuest.boot(ANNOUNCED)
    here = Kinds().prepare(ANNOUNCED, 0)(there.memory, there.state())
    assert here.parts.comparable is not None
    assert here.parts.comparable.architectural_state() == there.architectural_state()


@pytest.mark.parametrize("field", SMUGGLED)
def test_another_guest_than_was_announced_is_not(field: str) -> None:
    other = ModelGuest.boot(SMUGGLED[field])
    with pytest.raises(InvalidInput, match=f"another {field} than Prepare announced"):
        Kinds().prepare(ANNOUNCED, 0)(other.memory, other.state())


def test_a_working_set_that_never_fits_is_refused_before_it_is_made() -> None:
    config = GuestConfig(4 * MIB, workload="zipf:wss=64MiB")
    with pytest.raises(BadOption, match=r"too much for a guest of 4\.0 MiB"):
        Kinds().prepare(config, 0)
