"""`pageferry record` from the shell."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pageferry.cli.main import main
from paging_core.traces.written.reader import WrittenPagesFile
from paging_core.traces.written.schema import PROCESS
from tests.record.conftest import Writing
from tests.record.test_attach import PAUSE_FOR_EVER_32, elf32

CLI = [sys.executable, "-m", "pageferry.cli.main"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["record", *arguments])


def refused(*arguments: str) -> str:
    """The one line that it says."""
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_a_process_is_recorded_until_ctrl_c(writing: Writing, tmp_path: Path) -> None:
    memory = writing.tell("private", 100)
    out = tmp_path / "some.parquet"
    command = [
        *CLI,
        "record",
        "--pid",
        str(writing.pid),
        "--out",
        str(out),
        "--windows",
        "5ms,20ms",
    ]
    with subprocess.Popen(
        [*command, "--json", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as recording:
        assert recording.stderr
        line = ""
        while "recording " not in line:  # a line per second
            writing.tell("write", memory, 1, 7, 8)
            line = recording.stderr.readline()
        recording.send_signal(signal.SIGINT)
        said, about = recording.communicate()
    assert recording.returncode == 0
    document = json.loads(said)
    assert document["why_ended"] == "stopped by SIGINT"
    assert "stopped by SIGINT" in about
    trace = WrittenPagesFile(str(out))
    assert trace.recording.recorded == PROCESS
    assert trace.description.windows == document["windows"] > 1
    assert trace.description.duration_ns == document["duration_ns"]
    rows = [page for window in trace.windows() for page in window.written.tolist()]
    trace.close()
    assert len(rows) == document["rows"]
    assert len(set(rows)) == document["distinct"]
    assert writing.tell("private", 1)


def test_what_it_writes_is_in_the_windows_in_which_it_did(writing: Writing, tmp_path: Path) -> None:
    memory = writing.tell("private", 1000)
    out = tmp_path / "some.parquet"
    command = [*CLI, "record", "--pid", str(writing.pid), "--out", str(out), "--windows", "20ms"]
    with subprocess.Popen([*command, "--for", "6s"], stderr=subprocess.PIPE) as recording:
        assert recording.stderr
        recording.stderr.readline()  # it records
        for page in range(200):
            writing.tell("write", memory, 1, page, 999 - page)
            time.sleep(0.005)
        recording.communicate()
    trace = WrittenPagesFile(str(out))
    first = memory >> 12
    seen: list[list[int]] = []
    for window in trace.windows():
        pages = [page - first for page in window.written.tolist() if first <= page < first + 1000]
        if pages:
            seen.append(pages)
    trace.close()
    assert sorted(page for pages in seen for page in pages) == sorted(
        [*range(200), *range(800, 1000)]
    )
    low = [page for pages in seen for page in pages if page < 200]
    assert low == sorted(low)
    assert len(seen) > 1


def test_a_command_is_recorded_from_its_first_instruction(can_record: None, tmp_path: Path) -> None:
    """And where it executes another program."""
    del can_record
    out, about = tmp_path / "some.parquet", tmp_path / "about.json"
    script = "import os, time; time.sleep(.2); os.execv('/bin/sleep', ['sleep', '0.3'])"
    options = ["--out", str(out), "--windows", "10ms", "--json", str(about)]
    done = run(*options, "--", "/bin/sh", "-c", f'exec {sys.executable} -c "{script}"')
    assert done.exit_code == 0, done.output
    document = json.loads(about.read_text())
    assert document["why_ended"] == "the process ended"
    assert document["programs"] == 3
    trace = WrittenPagesFile(str(out))
    assert trace.recording.command.startswith("/bin/sh -c ")
    assert sum(len(window.written) for window in trace.windows()) == document["rows"] > 100
    assert any(one.name == "[stack]" for one in trace.recording.mappings)
    trace.close()


def test_a_command_is_ended_with_the_recording(can_record: None, tmp_path: Path) -> None:
    del can_record
    out = tmp_path / "some.parquet"
    done = run("--out", str(out), "--for", "300ms", "--", "sleep", "1000")
    assert done.exit_code == 0, done.output
    assert "the command was ended by SIGTERM" in done.stderr
    assert "its time was over" in done.stderr


def test_a_command_goes_on_when_its_recorder_is_killed(can_record: None, tmp_path: Path) -> None:
    """Before it begins, while it runs, and where it executes another program."""
    del can_record
    done = tmp_path / "done"
    script = f"sleep 2; exec /bin/sh -c 'sleep 0.2; echo right >{done}'"
    command = [*CLI, "record", "--out", str(tmp_path / "some.parquet"), "--", "/bin/sh", "-c"]
    with subprocess.Popen([*command, script]) as recorder:
        while not children(recorder.pid):
            time.sleep(0.01)
        shell = children(recorder.pid)[0]
        while name(shell) != "sh":
            time.sleep(0.01)
        recorder.kill()
    deadline = time.monotonic() + 60
    while not done.exists() or not done.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert done.read_text() == "right\n"


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_a_program_that_cannot_be_followed_ends_the_recording_and_keeps_it(
    can_record: None, tmp_path: Path
) -> None:
    del can_record
    program, out = tmp_path / "pause32", tmp_path / "some.parquet"
    program.write_bytes(elf32(PAUSE_FOR_EVER_32))
    program.chmod(0o755)
    script = f"sleep 0.3; exec {program}"
    done = run("--out", str(out), "--windows", "10ms", "--", "/bin/sh", "-c", script)
    if "Exec format error" in done.stderr:
        pytest.skip("this kernel runs no 32-bit programs")
    assert done.exit_code == 0, done.output
    assert "is a 32-bit program" in done.stderr
    trace = WrittenPagesFile(str(out))
    assert trace.description.windows > 1
    trace.close()


def test_a_trace_that_was_recorded_is_shown(writing: Writing, tmp_path: Path) -> None:
    out = tmp_path / "some.parquet"
    done = run("--pid", str(writing.pid), "--out", str(out), "--for", "300ms", "--json", "-")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["windows"] >= 1
    shown = CliRunner().invoke(main, ["trace", "show", str(out)])
    assert shown.exit_code == 0, shown.output


def test_what_cannot_be_is_refused_in_one_line(can_record: None, tmp_path: Path) -> None:
    del can_record
    out = str(tmp_path / "some.parquet")
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    assert f"there is no process {ended.pid}" in refused("--pid", str(ended.pid), "--out", out)
    assert f"there is no process {ended.pid}" in refused("--list", str(ended.pid))
    assert "no command 'nonesuch'" in refused("--out", out, "--", "nonesuch")
    assert "give one of --pid" in refused("--out", out)
    assert "give --out" in refused("--pid", "1")
    assert "like 100ms" in refused("--pid", "1", "--out", out, "--windows", "10us")
    assert "unknown unit" in refused("--pid", "1", "--out", out, "--windows", "10ms,5x")
    text = tmp_path / "text"
    text.write_text("#!/nonesuch\n")
    text.chmod(0o755)
    assert "cannot be executed: No such file" in refused("--out", out, "--", str(text))
    assert "is there already; give --force" in refused("--pid", "1", "--out", str(text))
    assert "no such directory" in refused("--pid", "1", "--out", str(tmp_path / "a" / "b"))
    assert not Path(out).exists()


def test_kernel_threads_are_refused(can_record: None, tmp_path: Path) -> None:
    del can_record
    if Path("/proc/2/comm").read_text() != "kthreadd\n":
        pytest.skip("no kernel threads in sight")
    assert "may not be traced" in refused("--pid", "2", "--out", str(tmp_path / "a.parquet"))
