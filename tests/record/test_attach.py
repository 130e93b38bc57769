"""Attaching: whatever a process does, it is left as it was; or it is refused, and says why."""

from __future__ import annotations

import ast
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pageferry.record.attach import Attached, attach
from pageferry.record.errors import CannotRecord
from pageferry.record.tracker import Tracker
from tests.record.conftest import Track, Writing, within

LOADED_AT = 0x08048000
PAUSE_FOR_EVER_32 = bytes.fromhex("b81d000000 cd80 ebf7")  # mov $29 (pause), %eax; int $0x80; jmp
SUMS = Path(__file__).with_name("sums.py")
KILLS = int(os.environ.get("PAGEFERRY_RECORD_KILLS", "100"))


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def wait_for_state(pid: int, wanted: str) -> None:
    deadline = time.monotonic() + 60
    while state(pid) != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_waits_go_on_as_if_nothing_had_been(writing: Writing, track: Track) -> None:
    writing.tell("wait_for_events", 1500)
    for _ in range(3):
        track().close()
    ended = {name: rest for name, *rest in ast.literal_eval(writing.ask("how_waits_ended"))}
    assert ended["epoll_wait"][:2] == [1, 0]
    assert ended["nanosleep"][:2] == [0, 0]
    assert ended["poll"][:2] == [0, 0]
    assert min(ended["nanosleep"][2], ended["poll"][2]) >= 1.499


def test_threads_that_come_and_go(writing: Writing, track: Track) -> None:
    memory = writing.tell("private", 100)
    writing.tell("churn")
    for value in range(1, 11):
        tracker = track()
        writing.tell("write", memory, value, value)
        assert within(tracker.take().pages, memory, 100) == [value]
        tracker.close()


def test_threads_that_never_leave_the_kernel(writing: Writing, track: Track) -> None:
    memory = writing.tell("private", 100)
    if writing.tell("have_the_kernel_poll") < 0:
        pytest.skip("this kernel gives no io_uring")
    assert len(list(Path(f"/proc/{writing.pid}/task").iterdir())) == 2
    for value in range(1, 11):
        tracker = track()
        writing.tell("write", memory, value, value)
        assert within(tracker.take().pages, memory, 100) == [value]
        tracker.close()


def test_signals_that_arrive_meanwhile_are_seen(writing: Writing) -> None:
    writing.tell("count_signals")
    for seen in range(1, 21):
        with attach(
            writing.pid,
        ) as attached:
            os.close(attached.userfaultfd)
            os.kill(writing.pid, signal.SIGUSR1)
        assert writing.tell("signals_seen") == seen


def test_a_stopped_process_stays_stopped(writing: Writing, track: Track) -> None:
    memory = writing.tell("private", 100)
    writing.process.send_signal(signal.SIGSTOP)
    wait_for_state(writing.pid, "T")
    tracker = track()
    assert state(writing.pid) == "T"
    writing.process.send_signal(signal.SIGCONT)
    writing.tell("write", memory, 1, 3)
    assert within(tracker.take().pages, memory, 100) == [3]


def test_a_filter_of_system_calls_is_neither_met_nor_lost(writing: Writing, track: Track) -> None:
    memory = writing.tell("private", 100)
    assert writing.tell("forbid_userfaultfd") == 0
    tracker = track()
    writing.tell("write", memory, 1, 3)
    assert within(tracker.take().pages, memory, 100) == [3]
    writing.begin("make_userfaultfd")
    assert writing.process.wait(60) == -signal.SIGSYS


def test_a_process_without_room_for_a_file_is_not_harmed(writing: Writing) -> None:
    command = ["prlimit", "--pid", str(writing.pid), "--nofile=3:3"]
    subprocess.run(command, check=True)
    with pytest.raises(CannotRecord, match="Too many open files; raise its limit"):
        attach(writing.pid)
    assert writing.tell("private", 1)


def test_a_traced_process_names_its_tracer(writing: Writing) -> None:
    script = (
        "import sys; from pageferry.record.tracee import Tracee; "
        "Tracee(int(sys.argv[1])); print('seized', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(writing.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tracer:
        assert tracer.stdout
        assert tracer.stdout.readline() == b"seized\n"
        with pytest.raises(CannotRecord, match=f"traced by process {tracer.pid} "):
            attach(writing.pid)
        tracer.communicate()
    assert writing.tell("private", 1)


WITHOUT_CAPABILITY = """
import ctypes, os, sys
CAP_SYS_PTRACE, PR_CAPBSET_DROP = 19, 24
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
ATTACH = """
import sys
from pageferry.record.attach import attach
from pageferry.record.errors import CannotRecord
try:
    attach(int(sys.argv[1])).close()
except CannotRecord as error:
    print(error)
else:
    print("attached")
"""


def test_without_the_capability_ones_own_processes_and_no_others(can_record: None) -> None:
    del can_record
    if os.geteuid() != 0:
        pytest.skip("needs root, to have processes of two users")
    drop = [sys.executable, "-c", WITHOUT_CAPABILITY]
    own = [*drop, "-c", "print('ready', flush=True); input()"]
    others = ["sh", "-c", "echo ready; read line"]
    refused = "may not be traced"
    for user, command, expected in ((0, own, "attached"), (65534, others, refused)):
        with subprocess.Popen(
            command, user=user, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout
            process.stdout.readline()
            done = subprocess.run(
                [*drop, "-c", ATTACH, str(process.pid)], capture_output=True, check=True, text=True
            )
            process.kill()
        assert expected in done.stdout


def test_no_such_process(can_record: None) -> None:
    del can_record
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    with pytest.raises(CannotRecord, match=f"process {ended.pid} has ended"):
        attach(ended.pid)


def elf32(code: bytes) -> bytes:
    """The smallest 32-bit program: a header, one segment, the code."""
    entry = LOADED_AT + 52 + 32
    size = 52 + 32 + len(code)
    header = b"\x7fELF\1\1\1".ljust(16, b"\0")
    header += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, entry, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<8I", 1, 0, LOADED_AT, LOADED_AT, size, size, 5, 0x1000)
    return header + segment + code


def test_a_32_bit_program_is_refused_by_name(can_record: None, tmp_path: Path) -> None:
    del can_record
    program = tmp_path / "pause32"
    program.write_bytes(elf32(PAUSE_FOR_EVER_32))
    program.chmod(0o755)
    try:
        process = subprocess.Popen([program])
    except OSError:
        pytest.skip("this kernel runs no 32-bit programs")
    try:
        with pytest.raises(CannotRecord, match="is a 32-bit program"):
            attach(process.pid)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


RECORDERS = """
import os, signal, sys, time
from contextlib import suppress
from pageferry.record.attach import attach
from pageferry.record.tracker import Tracker
pid, kills = map(int, sys.argv[1:])
for number in range(kills):
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        with Tracker(pid, attach(pid)) as tracker:
            while True:
                tracker.take()
    # Attaching takes some 100 ms or more: kills fall before, into and behind it.
    time.sleep(0.004 * (number % 53))
    with suppress(PermissionError, ProcessLookupError):
        os.setpgid(child, child)  # if it has not yet
    os.killpg(child, signal.SIGKILL)  # as a shell does it: all that it started, too
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


def test_results_are_right_however_often_it_is_attached_to_and_the_recorder_killed(
    can_record: None, tmp_path: Path
) -> None:
    """Threads that compute sums, system calls among them; recorders that die at any moment."""
    del can_record
    said = tmp_path / "said"
    with said.open("wb") as out, subprocess.Popen([sys.executable, "-S", SUMS], stdout=out) as sums:
        try:
            command = [sys.executable, "-c", RECORDERS, str(sums.pid), str(KILLS)]
            ended = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            with attach_when_free(sums.pid) as attached, Tracker(sums.pid, attached) as last:
                last.take()  # not under the descriptor of a dead one
        finally:
            sums.send_signal(signal.SIGTERM)
    assert sums.returncode == 0
    # 1: the attaching process of the one before was still at it, and only one can trace.
    assert set(ended.stdout.split()) <= {str(-signal.SIGKILL), "1"}
    assert ended.stdout.split().count(str(-signal.SIGKILL)) > KILLS // 2
    lines = said.read_text().split()
    assert len(lines) > KILLS
    assert set(lines) == {"right"}


def attach_when_free(pid: int) -> Attached:
    """Attach, once what a killed recorder had begun is over."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return attach(pid)
        except CannotRecord:
            assert time.monotonic() < deadline
            time.sleep(0.05)
