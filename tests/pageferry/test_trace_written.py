"""Traces of written pages from the shell: shown, and replayed by a migration."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paging_core.errors import BadTrace
from paging_core.traces.written.profile import profile_of
from paging_core.traces.written.reader import WrittenPagesFile
from paging_core.traces.written.schema import PROCESS, VM, Recording
from paging_core.traces.written.summary import Summary, summary_of
from paging_core.traces.written.writer import WrittenPagesWriter
from tests.pageferry.hosts import pageferry
from tests.pageferry.test_trace import CLI, error_line, run
from tests.paging_core.test_traces_importing import DAMON, VIEW
from tests.paging_core.test_traces_written import Plain, write

MS = 1_000_000
NOTE = "note: a trace of written pages has no order within a window"


def summed(path: Path) -> Summary:
    opened = WrittenPagesFile(str(path))
    return summary_of(opened, profile_of(opened))


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Three windows of 10 ms, one of them empty: pages 0, 1, 5 and 600; then 1 and 2, 9 read."""
    windows: Plain = [
        (0, 10 * MS, {0: True, 1: True, 5: False, 600: None}, set()),
        (10 * MS, 20 * MS, {}, set()),
        (20 * MS, 30 * MS, {1: False, 2: True}, {9}),
    ]
    path = tmp_path / "some.parquet"
    write(path, windows, Recording(VM, command="a [bold]vm\x1b[2J", how="by hand"))
    return path


def test_the_summary_by_hand(recorded: Path) -> None:
    found = summed(recorded)
    assert (found.least, found.median, found.most) == (0, 2, 4)
    assert (found.pages_written, found.pages_read) == (5, 1)
    assert found.dirty_bytes_per_s == pytest.approx(6 * 4096 / 0.030)
    assert found.silent_share == 2 / 5
    # Groups of 4: {0, 1}, {5}, {600}; {1, 2}. Of 16 and 64: {0, 1, 5}, {600}; {1, 2}. Of 512: same.
    assert found.density == {4: 6 / 4, 16: 6 / 3, 64: 6 / 3, 512: 6 / 3}


def test_density_of_large_pages(tmp_path: Path) -> None:
    """Pages 1, 2 and 40 of 64 KiB: whole groups of 16 and less; 32 of 64, then 16 of 64."""
    with WrittenPagesWriter(tmp_path / "t.parquet") as trace:
        trace.window(0, MS, np.array([1, 2, 40], np.uint64))
        trace.finish(Recording(PROCESS, 65536))
    assert summed(tmp_path / "t.parquet").density == {4: None, 16: None, 64: 24, 512: 24}


def test_a_recording_in_which_nothing_was_written(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", [(0, MS, {}, set())])
    found = summed(tmp_path / "t.parquet")
    assert (found.most, found.pages_written, found.silent_share) == (0, 0, None)
    assert set(found.density.values()) == {None}
    assert run("show", tmp_path / "t.parquet").exit_code == 0


def test_more_windows_than_it_says(tmp_path: Path) -> None:
    with WrittenPagesWriter(tmp_path / "t.parquet") as trace:
        for i in range(3):
            trace.window(i, i + 1, np.array([1], np.uint64))
        trace._windows = 2
        trace.finish(Recording(VM))
    with pytest.raises(BadTrace, match="more windows than the 2 that it says"):
        summed(tmp_path / "t.parquet")


def test_what_is_shown(recorded: Path) -> None:
    done = run("show", recorded)
    assert (done.exit_code, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    for part in (
        "a virtual machine of unknown size: a [bold]vm\\x1b[2J",
        "how by hand",
        "30 ms, 3 windows, 10 ms each",
        "5 written, 1 only read",
        "0 to 4 written, median 2",
        "800.0 KiB/s, at this length of windows",
        "1.5 of 4, 2.0 of 16, 2.0 of 64, 2.0 of 512 frames of a touched group",
        "40.0 % of 5 written pages held the same",
        "under HAP and shadow paging; a trace of written pages has no order within a window",
    ):
        assert part in text
    assert "--memory 8MiB" in text  # two blocks of 2 MiB, page tables, and the kernel's own


def test_the_same_as_json(recorded: Path) -> None:
    done = run("show", recorded, "--json", "-")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert document["schema"] == {"name": "pageferry.written-pages", "version": 1}
    assert document["density"] == {"4": 1.5, "16": 2, "64": 2, "512": 2}
    assert document["written_per_window"] == {"least": 0, "median": 2, "most": 4}
    assert document["by_page"] == {
        "page": [0, 1, 2, 5, 9, 600],
        "windows_written": [1, 2, 1, 1, 0, 1],
    }


def test_a_migration_says_what_the_trace_lacks(tmp_path: Path, hosts: list[str]) -> None:
    path = tmp_path / "w.parquet"
    write(path, [(i * MS, (i + 1) * MS, {i % 7: None, 8: None}, set()) for i in range(20)])
    asked = ("migrate", "--trace", str(path), "--memory", "8MiB", "--no-progress")
    for where, code in ((hosts, 1), ([], 2)):
        refused = pageferry(*asked, *where)
        assert refused.returncode == code
        assert "no reads, and shadow paging" in refused.stderr
    target = tmp_path / "result.json"
    done = pageferry(*asked, "--paging", "hap", "--group-pages", "4", "--json", str(target))
    assert done.returncode == 0, done.stderr
    assert NOTE in done.stderr
    assert json.loads(target.read_text())["verified"]


def test_lists_from_a_file_and_a_pipe(tmp_path: Path) -> None:
    text = "time_ns,page,written\n0,0x1f,w\n25000000,7,r\n"
    (tmp_path / "some.csv").write_text(text)
    table = {"time_ns": [0, 25_000_000], "page": [31, 7], "written": [True, False]}
    pq.write_table(pa.table(table), tmp_path / "some.list")
    for name, file in (("a", "-"), ("b", tmp_path / "some.csv"), ("c", tmp_path / "some.list")):
        done = run("import", "pages", file, "--out", tmp_path / f"{name}.parquet", text=text)
        assert done.exit_code == 0, done.stderr
        assert "3 windows of 30 ms" in done.stdout
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "c.parquet").read_bytes()
    again = run("import", "pages", "-", "--out", tmp_path / "a.parquet", text=text)
    assert (again.exit_code, "is there already" in error_line(again)) == (2, True)


def test_bitmaps_damon_and_drmemtrace(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.bin").write_bytes(bytes([1 << number, 0, 0, 0]))
    out = tmp_path / "o.parquet"
    done = run("import", "bitmaps", tmp_path / "0.bin", tmp_path / "1.bin", "--window", "200ms",
               "--page-size", "2MiB", "--out", out)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert WrittenPagesFile(str(out)).recording == Recording(
        VM, 2 << 20, how="2 dirty bitmaps", memory_bytes=64 << 20
    )
    done = run("import", "damon", "-", "--count-as", "read", "--recorded", "process", "--out", out,
               "--force", text=DAMON)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "2 windows" in done.stdout
    assert WrittenPagesFile(str(out)).recording.recorded == PROCESS
    done = run("import", "drmemtrace", "-", "--command", "ls", "--out", out, "--force", text=VIEW)
    assert done.exit_code == 0, done.stderr
    assert "drmemtrace: ls" in run("show", out).stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("pages", "-"), "some line 1 is not the header"),
        (("pages", "-", "--page-size", "8KiB"), "4KiB, 64KiB or 2MiB"),
        (("pages", "-", "--window", "0s"), "is not between 1 ns and 3600s"),
        (("bitmaps", "no.bin", "--window", "1ms"), "cannot read no.bin"),
        (("damon", "-", "--count-as", "written"), "line 1 is none of damo's raw form"),
        (("drmemtrace", "-"), "line 1 is none of drmemtrace's view tool"),
    ],
)
def test_what_cannot_be_imported(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    done = run("import", *arguments, "--out", tmp_path / "o.parquet", text="hello\n")
    assert done.exit_code == 2
    assert says.removeprefix("some ") in error_line(done)
    assert not list(tmp_path.iterdir())


def test_what_a_file_is_is_seen(tmp_path: Path) -> None:
    """Imported as by the command of its format, from a file and from a pipe, with its options."""
    lackey = "==7== Lackey\nI  04001000,3\n S 1ffe008,8\n"
    listed = "time_ns,page,written\n0,1,w\n"
    for name, text, options in (
        ("pages", listed, ["--page-size", "64KiB"]),
        ("damon", DAMON, ["--count-as", "read"]),
        ("drmemtrace", VIEW, ["--window", "10"]),
        ("lackey", lackey, ["--window", "10"]),
        ("lackey", lackey.partition("\n")[2], []),
    ):
        (tmp_path / "text").write_text(text)
        made = []
        out = tmp_path / "o.parquet"
        for by in (name, "auto"):
            done = run("import", by, tmp_path / "text", *options, "--out", out, "--force")
            assert done.exit_code == 0, done.stderr
            made.append(out.read_bytes())
        assert made[0] == made[1]
    command = f"cat {tmp_path / 'text'} | {CLI} trace import auto - --force --out {out}"
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert out.read_bytes() == made[0]


def test_what_is_not_certain_is_asked(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"\0\1\2")
    done = run("import", "auto", tmp_path / "x.bin", "--out", tmp_path / "o.parquet")
    assert done.exit_code == 2
    assert "name its format: bitmaps, damon, drmemtrace, lackey, pages" in done.stderr
    (tmp_path / "x.bin").write_text(DAMON)
    done = run("import", "auto", tmp_path / "x.bin", "--out", tmp_path / "o.parquet")
    assert done.exit_code == 2
    assert "--count-as" in done.stderr
    assert "No such file" in run("import", "auto", tmp_path / "no", "--out", "o.parquet").stderr


def test_reads_are_merged_and_shadow_paging_takes_them(tmp_path: Path) -> None:
    """Written for 20 ms; read by instructions of 1 µs, for 30 of them, and then for 20,000."""
    write(
        tmp_path / "w.parquet",
        [(i * MS, (i + 1) * MS, {i % 7: None, 8: None}, set()) for i in range(20)],
        Recording(PROCESS, how="by hand"),
    )
    for name, times in (("short", 10), ("long", 7000)):
        text = "==7== Lackey\n" + "I  00007000,3\n L 00003000,8\n S 00008000,8\n" * 3 * times
        done = run("import", "lackey", "-", "--out", tmp_path / f"{name}.parquet",
                   "--instructions-per-second", "1M", "--window", "100", text=text)  # fmt: skip
        assert done.exit_code == 0, done.stderr
    asked = ("merge", tmp_path / "w.parquet")
    out = tmp_path / "m.parquet"
    refused = run(*asked, tmp_path / "short.parquet", "--out", out, "--least-share", "0")
    assert (refused.exit_code, "--time stretched" in error_line(refused)) == (2, True)
    refused = run(*asked, tmp_path / "long.parquet", "--out", out)
    assert (refused.exit_code, "touches 25%" in error_line(refused)) == (2, True)
    for name, options in (("short", ["--time", "stretched"]), ("long", [])):
        done = run(*asked, tmp_path / f"{name}.parquet", "--out", out, "--force", *options,
                   "--least-share", "0.2")  # fmt: skip
        assert done.exit_code == 0, done.stderr
        assert "25% of the written pages are touched in" in done.stdout
    migrate = ("migrate", "--trace", str(out), "--memory", "8MiB", "--no-progress", "--json", "-")
    migrated = pageferry(*migrate, "--paging", "shadow")
    assert migrated.returncode == 0, migrated.stderr
    assert json.loads(migrated.stdout)["verified"]
