"""Would it migrate? Sets of pages worked out by hand, and against migrations of the same trace."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pageferry import in_process
from pageferry.predict.answer import Answer, answer
from pageferry.predict.asking import ask
from pageferry.predict.page import paragraphs
from pageferry.predict.prediction import Prediction, errors
from pageferry.predict.simulation import UNCHANGED_BYTES, Setting, simulate
from pageferry.predict.windows import FRAME_ON_THE_LINK_BYTES, Recorded
from pageferry.request import MigrationOptions
from paging_core.errors import BadOption
from paging_core.migration_key import MigrationKey
from paging_core.traces.replay import SILENT_FRACTION
from paging_core.traces.written.reader import WrittenPagesFile
from paging_core.traces.written.schema import PROCESS, VM, Recording
from source_host.precopy.encoder import Encoder
from tests.pageferry.hosts import pageferry
from tests.paging_core.test_traces_written import Plain, recordings, write
from tests.predict.test_models import FRAME_A_MS
from wire.codec import encode_batch

MS = 1_000_000
MIB = 1 << 20


def recorded(path: Path, windows: Plain, recording: Recording | None = None) -> Recorded:
    write(path, windows, recording or Recording(VM, memory_bytes=MIB))
    return Recorded(WrittenPagesFile(str(path)), MIB)


# What is dirty after a time.


def test_dirty_pages_by_hand(tmp_path: Path) -> None:
    """Two windows of 10 ms; then 10 ms of nothing, then the recording begins again."""
    windows: Plain = [
        (0, 10, {1: True, 2: False, 3: False}, {9}),
        (10, 20, {3: True, 4: False}, set()),
        (20, 30, {}, set()),
    ]
    found = recorded(tmp_path / "t.parquet", windows)
    assert found.written(0, 10) == (3, 2)
    assert found.written(0, 20) == (4, 2)  # 2 and 4 are the same; 3 was changed
    assert found.written(20, 30) == (0, 0)
    assert found.written(0, 5) == (1.5, 1)  # half of the window: half of each page
    assert found.written(5, 10) == (1.5, 1)
    # 1, 2: half. 3: half, then half of what is left. 4: half. Of them 2 and 4 are the same, and 3
    # where the first window alone wrote it: half of a half.
    assert found.written(5, 15) == pytest.approx((0.5 + 0.5 + 0.75 + 0.5, 0.5 + 0.5 + 0.25))
    assert found.written(15, 35) == pytest.approx((0.5 + 0.5 + 0.75 + 0.5, 0.5 + 0.5 + 0.25))
    assert found.written(0, 1000) == (4, 2)


def test_unmeasured_writes_are_silent_one_time_in_eight(tmp_path: Path) -> None:
    found = recorded(
        tmp_path / "t.parquet", [(0, 10, {1: None}, set()), (10, 20, {1: None}, set())]
    )
    assert found.written(0, 10) == pytest.approx((1, SILENT_FRACTION))
    assert found.written(0, 20) == pytest.approx((1, SILENT_FRACTION**2))


def test_a_large_page_is_all_of_its_frames(tmp_path: Path) -> None:
    large = Recording(VM, 65536, memory_bytes=MIB)
    assert recorded(tmp_path / "t.parquet", [(0, 10, {1: True}, set())], large).written(0, 10) == (
        16,
        0,
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(data=st.data())
def test_whole_windows_are_unions(tmp_path: Path, data: st.DataObject) -> None:
    windows = [
        (start, end, {page % 200: known for page, known in written.items()}, set[int]())
        for start, end, written, _ in data.draw(recordings())
    ]
    found = recorded(tmp_path / "t.parquet", windows)
    first = data.draw(st.integers(0, len(windows) - 1))
    last = data.draw(st.integers(first, len(windows) - 1))
    dirty: set[int] = set()
    for _, _, written, _ in windows[first : last + 1]:
        dirty |= written.keys()
    begin, end = windows[first][0], windows[last][1]
    assert found.written(begin, end)[0] == pytest.approx(len(dirty))
    lap = found.duration_ns
    assert found.written(begin + lap, end + lap)[0] == pytest.approx(len(dirty))


def test_more_pages_than_memory(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", [(0, 10, dict.fromkeys(range(300)), set())])
    with pytest.raises(BadOption, match=r"1\.2 MiB, and the machine 1\.0 MiB; give --memory"):
        Recorded(WrittenPagesFile(str(tmp_path / "t.parquet")), MIB)


@pytest.mark.parametrize(("said", "is_"), [(4096, 300), (MIB, 300), (2 * MIB, 512)])
def test_memory_is_what_the_recording_says_or_all_that_was_touched(
    tmp_path: Path, said: int, is_: int
) -> None:
    windows: Plain = [(0, 10, dict.fromkeys(range(300)), set())]
    found = recorded(tmp_path / "t.parquet", windows, Recording(PROCESS, memory_bytes=said))
    assert found.n_frames == is_


# Bytes of unchanged frames.


def test_unchanged_frames_by_hand() -> None:
    """1000 frames of 4096 bytes at 1 ms each; 100 dirtied, 75 of them the same: 25 ms and a bit."""
    said = simulate("m", _one_round(), lambda *_: 100, lambda *_: 75.0)
    last = 25 * 4096 + 75 * UNCHANGED_BYTES
    assert said.bytes_wire == 1000 * 4096 + last
    assert said.downtime_s == pytest.approx(FRAME_A_MS.carry_ns(last) / 1e9)


def _one_round() -> Setting:
    options = MigrationOptions.of(max_rounds=1)
    return Setting(1000, 4096, FRAME_A_MS, options.plan().make_policy(), 300 * MS)


def test_what_frames_cost_is_what_the_codec_makes_of_them() -> None:
    """Every other frame, so that each is a run by itself: the dearest there are."""
    frames = np.random.default_rng(0).integers(1, 255, (2048, 4096), dtype=np.uint8)
    encoder = Encoder(frames, MigrationKey.of_seed(0), suppress=True)
    gfns = np.arange(0, 2048, 2)
    sizes = []
    for ever_sent in (False, True):
        sent = np.full(len(gfns), ever_sent)
        encoded = encoder.encode(gfns, sent, 1, last=False, level=0)
        sizes.append(len(encode_batch(encoded.batch)) / len(gfns))
    assert sizes == pytest.approx([FRAME_ON_THE_LINK_BYTES, UNCHANGED_BYTES], abs=1.5)


# Against migrations of the same trace.


def busy(path: Path, *, pages_per_window: int, window_ns: int, known: float = 0) -> Path:
    """A second of a machine of 8 MiB with 600 busy pages, some of them busier."""
    rng = np.random.default_rng(3)
    windows: Plain = []
    for i in range(1000 * MS // window_ns):
        busiest = rng.choice(100, pages_per_window // 2, replace=False)
        others = rng.choice(600, pages_per_window - pages_per_window // 2, replace=False)
        written: dict[int, bool | None] = {
            int(page): (bool(rng.random() > known) if known else True)
            for page in np.union1d(busiest, others)
        }
        # What is neither written nor read is zeros in a replay, and zeros do not cross.
        read = set() if i else set(range(1024))
        windows.append((i * window_ns, (i + 1) * window_ns, written, read))
    write(path, windows, Recording(VM, memory_bytes=8 * MIB))
    return path


CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"pages_per_window": 20, "window_ns": MS}, {}),
    ({"pages_per_window": 20, "window_ns": MS, "known": 0.6}, {}),
    ({"pages_per_window": 20, "window_ns": MS, "known": 0.6}, {"suppress": False}),
    ({"pages_per_window": 60, "window_ns": 10 * MS}, {"link_bits_per_s": 50_000_000}),
    (
        {"pages_per_window": 60, "window_ns": 10 * MS},
        {"policy": "qemu", "downtime_limit_ns": 10 * MS},
    ),
]


@pytest.mark.parametrize(("made", "changed"), CASES, ids=str)
def test_a_migration_of_the_trace_says_the_same(
    tmp_path: Path, made: dict[str, Any], changed: dict[str, Any]
) -> None:
    """Memory is full of what does not pack and nothing is compressed: every byte is a page's.

    The replay's guest has page tables and a kernel of its own, is slowed down a little, and writes
    its pages at moments where the prediction has shares of windows. Seen: 2 % and 10 %.
    """
    path = busy(tmp_path / "busy.parquet", **made)
    options = MigrationOptions.of(
        **{
            "trace": str(path), "memory_bytes": 8 * MIB, "paging": "hap", "fill": "random",
            "zstd_level": 0, "link_bits_per_s": 300_000_000, "warmup_ns": 0, **changed,
        }
    )  # fmt: skip
    migrated = in_process.run(options)
    found = ask(options)
    off = errors(found.predictions[0], migrated)
    assert off["rounds"] == 0
    assert abs(off["total_s"]) < 0.03, off
    assert abs(off["bytes_wire"]) < 0.03, off
    assert abs(off["downtime_s"]) < 0.15, off


# The answer, and what would help.


class Scripted:
    """A machine whose downtime is a function of what it is asked."""

    packs = True
    slows = True

    def predict(
        self, options: MigrationOptions, *, packed: float = 1.0, slowed: float = 1.0
    ) -> Sequence[Prediction]:
        """A second at 1 Gbit/s; less with all that helps; at one of two moments twice as long."""
        downtime_s = 1e9 / options["link_bits_per_s"] * packed * slowed
        downtime_s /= 2 if options["policy"] == "qemu" else 1
        return [Prediction("m", 6, 9.0, downtime_s * by, 1, 0.0) for by in (0.5, 1)]


def answered(**given: Any) -> Answer:
    options = MigrationOptions.of(**given)
    return answer(Scripted(), options, Scripted().predict(options))


def test_what_helps_is_the_smallest_change_of_each_sort() -> None:
    found = answered(downtime_limit_ns=300 * MS)
    assert not found.converges
    assert (found.worst.downtime_s, found.best.downtime_s) == (1, 0.5)
    assert [(one.what, one.option, one.prediction.downtime_s) for one in found.advice] == [
        ("a link of 5Gbit/s", "--link 5Gbit/s", 0.2),
        ("a downtime limit of 1s", "--downtime-limit 1s", 1),
        ("pages that zstd packs to a fifth of their size", "", 0.2),
        ("a machine that writes at 20% of its speed meanwhile", "", 0.2),
    ]
    assert answered(downtime_limit_ns=500 * MS).advice[2].option == "--policy qemu"


def test_what_is_within_the_limit_needs_no_advice() -> None:
    found = answered(downtime_limit_ns=1000 * MS)
    assert (found.converges, found.advice) == (True, ())


def test_the_limit_counts_at_every_moment() -> None:
    assert not answered(downtime_limit_ns=999 * MS).converges


def test_the_page(tmp_path: Path) -> None:
    path = busy(tmp_path / "busy.parquet", pages_per_window=60, window_ns=10 * MS, known=0.5)
    options = MigrationOptions.of(trace=str(path), link_bits_per_s=10_000_000)
    found = ask(options)
    page = list(paragraphs(found.answer, found.options, found.recorded))
    assert page[0].startswith("No: over 10Mbit/s this machine would stand still for ")
    assert "times the 1.2 MiB that the link carries" in page[1]
    assert "Begun at 4 moments of the recording" in page[2]
    assert any("--downtime-limit" in line for line in page)
    assert "for 8.0 MiB of memory" in page[-1]
    assert "those of the recording" in page[-1]
    for one in found.answer.advice:
        if one.option.startswith("--link"):
            rate = {"--link 100Mbit/s": 100_000_000, "--link 300Mbit/s": 300_000_000}[one.option]
            assert ask(options.but(link_bits_per_s=rate)).answer.converges
            break
    else:
        pytest.fail("no link would help")


def test_the_command_answers_with_its_exit_code(tmp_path: Path) -> None:
    path = busy(tmp_path / "busy.parquet", pages_per_window=60, window_ns=10 * MS)
    for link, code, word in (("1Gbit/s", 0, "Yes: over 1Gbit/s"), ("10Mbit/s", 3, "No: over 10")):
        done = pageferry("predict", "--trace", str(path), "--link", link, "--json", "-")
        assert done.returncode == code, done.stderr
        assert word in done.stderr
        document = json.loads(done.stdout)
        assert document["answer"]["converges"] == (code == 0)
        assert document["config"]["memory_bytes"] == 8 * MIB
        assert len(document["predictions"]) == 4


def test_a_guest_that_writes_too_fast() -> None:
    """Rehearsed; what would help is rehearsed, too, with a load that the link does not change."""
    options = MigrationOptions.of(
        memory_bytes=8 * MIB, workload="uniform:wss=4MiB,write_rate=500k",
        link_bits_per_s=100_000_000, downtime_limit_ns=50 * MS,
    )  # fmt: skip
    found = ask(options)
    assert not found.answer.converges
    options_that_help = {one.option for one in found.answer.advice}
    assert any(option.startswith("--link") for option in options_that_help)
    assert all(one.prediction.downtime_s <= 0.05 for one in found.answer.advice
               if "limit" not in one.option)  # fmt: skip
