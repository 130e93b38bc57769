"""A program measured from outside: faults are exactly those of its writes, and it goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from guests.linux.userfaultfd import ALL_FAULTS, check_kernel
from pageferry.cli.main import main
from pageferry.measure.rounds import (
    ASYNC,
    SYNC,
    UNTRACKED,
    Measured,
    Plan,
    Round,
    Way,
    percentile_below_ns,
    run_round,
    track,
)
from pageferry.measure.throughput import Throughput
from pageferry.record.errors import CannotRecord
from pageferry.record.guest_ram import GuestRam, split
from paging_core.errors import CannotTrack
from tests.record.conftest import Writing
from tests.record.test_qemu import (
    COUNT,
    FIRST_GFN,
    QEMU,
    STEP,
    Boot,
    boot,
    disk,
    wait_until_it_runs,
)

__all__ = ["boot", "disk"]
PAGES = (64 << 20) // 4096
KILLS = 20


@pytest.fixture(autouse=True)
def can_handle_faults(can_record: None) -> None:
    del can_record
    try:
        check_kernel(flags=ALL_FAULTS)
    except CannotTrack as error:
        pytest.skip(str(error))


@pytest.fixture
def memory(writing: Writing) -> tuple[int, GuestRam]:
    """64 MiB from a multiple of 64 pages on, of which 128 pages were written."""
    address = writing.tell("private", PAGES + 64)
    aligned = -(-address // (64 * 4096)) * 64 * 4096
    writing.tell("write", aligned, 1, *range(128))
    return aligned, split(aligned, aligned + PAGES * 4096, [], None, "by hand")


@pytest.mark.parametrize(("n", "faults", "opened"), [(1, 96, 0), (8, 12, 84), (64, 2, 126)])
def test_96_pages_written_take_so_many_faults(
    writing: Writing, memory: tuple[int, GuestRam], n: int, faults: int, opened: int
) -> None:
    """Window by window, all of them again each time."""
    address, ram = memory
    with closing(track(writing.pid, Way(SYNC, n), ram, content=False)) as tracking:
        for value in (2, 3, 4):
            writing.tell("write", address, value, *range(96))
            look = tracking.look()
            assert (look.faults, look.opened, look.dirty) == (faults, opened, faults + opened)
        assert tracking.look().faults == 0
        assert tracking.latency().sum() == 3 * faults
    writing.tell("write", address, 5, *range(96))


def test_system_calls_store_into_it(writing: Writing, memory: tuple[int, GuestRam]) -> None:
    """They wait for the handler, and none fails with EFAULT."""
    address, ram = memory
    with closing(track(writing.pid, Way(SYNC, 8), ram, content=False)) as tracking:
        assert writing.tell("receive", address, *range(96)) == 96
        assert tracking.look()[:3] == (96, 12, 84)


def test_what_was_opened_and_holds_what_it_held(
    writing: Writing, memory: tuple[int, GuestRam]
) -> None:
    """Groups of 8 over pages 0 to 15: 0 and 8 fault. Of their neighbours 1 changes, 9 does not."""
    address, ram = memory
    with closing(track(writing.pid, Way(SYNC, 8), ram, content=True)) as tracking:
        writing.tell("write", address, 2, 0, 8, 1)
        writing.tell("write", address, 1, 9)
        look = tracking.look()
    assert (look.faults, look.opened, look.false, look.changed) == (2, 14, 13, 1)


def test_the_kernel_answers_page_by_page(writing: Writing, memory: tuple[int, GuestRam]) -> None:
    address, ram = memory
    with closing(track(writing.pid, Way(ASYNC), ram, content=False)) as tracking:
        writing.tell("write", address, 2, *range(0, 96, 3))
        assert tracking.look()[:3] == (32, 32, 0)


def test_never_all_that_a_process_writes(writing: Writing) -> None:
    """A thread that ends stores its number where it would be protected, and nobody waits for it."""
    with pytest.raises(CannotRecord, match="who joins it would wait"):
        track(writing.pid, Way(SYNC), None, content=False)


def test_never_what_can_be_a_stack(writing: Writing, memory: tuple[int, GuestRam]) -> None:
    start, ram = memory
    small = split(start, ram.end - 4096, [], None, "by hand")
    with pytest.raises(CannotRecord, match="can be the stack of a thread"):
        track(writing.pid, Way(SYNC), small, content=False)
    beyond = split(start, ram.end + (1 << 30), [], None, "by hand")
    with pytest.raises(CannotRecord, match="is not mapped at"):
        track(writing.pid, Way(SYNC), beyond, content=False)


MEASURERS = """
import os, signal, sys, time
from pageferry.cli.measuring import warm_handler
from pageferry.measure.rounds import SYNC, Way, track
from pageferry.record.guest_ram import split
pid, kills, start, end = map(int, sys.argv[1:])
ram = split(start, end, [], None, "by hand")
warm_handler()
for number in range(kills):
    begun, begin = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        tracking = track(pid, Way(SYNC, 8), ram, content=False)
        os.write(begin, b"t")
        while True:
            tracking.look()
    os.close(begin)
    tracked = number % 2 and os.read(begun, 1) == b"t"
    time.sleep(0.004 * (number % 53))
    try:
        os.setpgid(child, child)
    except OSError:
        pass
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
    _, status = os.waitpid(child, 0)
    os.close(begun)
    print("tracking" if tracked else "attaching", os.waitstatus_to_exitcode(status), flush=True)
"""


def test_one_who_is_killed_leaves_the_program_right(
    writing: Writing, memory: tuple[int, GuestRam]
) -> None:
    """Twenty times, while it attaches and while it handles faults of a program that writes on."""
    address, ram = memory
    numbers = map(str, (writing.pid, KILLS, ram.start, ram.end))
    command = [sys.executable, "-c", MEASURERS, *numbers]
    rounds = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killing:
        while killing.poll() is None:
            rounds += 1
            for page in range(128):
                writing.tell("write", address - 8, rounds % 250 + page % 5, page)
            expected = sum(rounds % 250 + page % 5 for page in range(128))
            assert writing.tell("read", address, *range(128)) == expected
        assert killing.stdout
        said = killing.stdout.read().splitlines()
    assert killing.returncode == 0
    assert said.count(f"tracking {-signal.SIGKILL}") > KILLS // 4
    writing.tell("write", address, 1, *range(128))  # it goes on


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["measure", *arguments])


@pytest.mark.skipif(not QEMU, reason="needs qemu-system-x86_64")
def test_a_virtual_machine_whose_writes_are_known(
    boot: Boot, disk: list[str], tmp_path: Path
) -> None:
    """As many faults in a window as aligned groups have one of its frames, when it gets to all."""
    pid = boot(*disk, "-machine", "pc")
    wait_until_it_runs(pid)
    out = tmp_path / "m.json"
    done = run("--pid", str(pid), "--group-pages", "1,8,64", "--tracking", "uffd-sync",
               "--tracking", "uffd-async", "--for", "3s", "--clean-every", "500ms", "--rounds", "1",
               "--throughput", "echo 7 of 2.5", "--json", str(out))  # fmt: skip
    assert done.exit_code == 0, done.output
    frames = [FIRST_GFN + STEP * i for i in range(COUNT)]
    expected = {("none", 1): 0, ("uffd-async", 1): COUNT} | {
        ("uffd-sync", n): len({frame // n for frame in frames}) for n in (1, 8, 64)
    }
    found = json.loads(out.read_text())
    assert found["guest_ram"]["end"] - found["guest_ram"]["start"] == 64 << 20
    rows = {(row["tracking"], row["group_pages"]): row for row in found["ways"]}
    # Of the windows in which it got to all of its frames; a busy machine has others, too.
    assert {way: row["faults_per_window"]["most"] for way, row in rows.items()} == expected
    assert all(row["throughput"] == [2.5] for row in rows.values())
    assert "+0.0 %" in done.output


@pytest.fixture
def asleep() -> Iterator[str]:
    with subprocess.Popen(["sleep", "100"]) as process:
        yield str(process.pid)
        process.kill()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--group-pages", "3"], "3 is no power of two from 1 to 4096"),
        (["--tracking", "uffd-sync", "--guest-ram", "10000000-20000000"], "only the RAM that was"),
        (["--tracking", "uffd-sync"], "only the RAM that was found in a running QEMU"),
        (["--throughput", "echo nothing", "--for", "1ms"], "printed no number in its last line"),
        (["--throughput", "exit 3", "--for", "1ms"], "ended with 3; try it by itself"),
    ],
)
def test_what_is_refused(asleep: str, options: list[str], says: str) -> None:
    ways = () if "--tracking" in options else ("--tracking", "uffd-async")
    done = run("--pid", asleep, *ways, *options)
    assert done.exit_code == 2 if "3" in options else done.exit_code > 0
    assert says in done.stderr


def test_a_process_that_is_none() -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    done = run("--pid", str(ended.pid))
    assert done.exit_code > 0
    assert f"process {ended.pid} has ended" in done.stderr


@pytest.mark.parametrize("way", [ASYNC, UNTRACKED])
def test_a_process_that_ended_between_rounds(way: str) -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    plan = Plan((Way(way),), 1, 1, 1, "", False, None)
    with pytest.raises(CannotRecord, match="has ended"):
        run_round(ended.pid, Way(way), plan)


def test_the_last_number_that_is_printed(tmp_path: Path) -> None:
    del tmp_path
    with Throughput("printf '1 2\\n\"SET\" 1234.5 requests\\n'") as asked:
        while asked.runs():
            pass
        assert asked.number() == 1234.5
    with Throughput("") as asked:
        assert (asked.runs(), asked.number()) == (False, None)
    with Throughput("sleep 100") as asked:
        assert asked.runs()


def test_percentiles_and_shares_by_hand() -> None:
    bins = np.zeros(64, np.int64)
    assert percentile_below_ns(bins, 0.5) is None
    bins[3], bins[10], bins[20] = 50, 49, 1
    assert [percentile_below_ns(bins, share) for share in (0.5, 0.9, 0.99, 1)] == [
        8, 1024, 1024, 1 << 20,
    ]  # fmt: skip
    alone, tracked = (
        Measured(Way(way), tuple(Round(Way(way), throughput=one) for one in said))
        for way, said in ((UNTRACKED, (90.0, 100.0, 200.0)), (SYNC, (75.0, 10.0, 80.0)))
    )
    assert tracked.against(alone) == 0.75


def test_of_one_that_ends_it_is_said(asleep: str) -> None:
    done = run(
        "--pid", asleep, "--tracking", "uffd-async", "--throughput", f"kill {asleep}; sleep 30"
    )
    assert done.exit_code > 0
    assert "the process ended while it was measured" in done.stderr
    with pytest.raises(CannotRecord):
        track(int(asleep), Way(ASYNC), None, content=False)
