"""`pageferry trace` and migrations of traces, from the shell."""

from __future__ import annotations

import fcntl
import json
import re
import subprocess
import sys
import termios
import time
from array import array
from itertools import takewhile
from pathlib import Path
from typing import TextIO

import pytest
from click.testing import CliRunner, Result

from pageferry.cli.main import main
from paging_core.traces.opening import open_trace
from paging_core.traces.reader import TraceFile
from paging_core.traces.written.reader import WrittenPagesFile
from tests.pageferry.hosts import interrupt, pageferry, running

PAGES = 400
TEXT = "==7== Command: some program\n" + "".join(
    f"I  {0x400000 + i % 7 * 4096:08x},4\n"
    f" {'SLL'[i % 3]} {0x10000000 + i * 31 % PAGES * 4096:x},8\n"
    for i in range(4000)
)
CLI = f"{sys.executable} -m pageferry.cli.main"


def run(*arguments: str | Path, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ["trace", *map(str, arguments)], input=text)


def error_line(result: Result) -> str:
    """The one line that a refused command said."""
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A file of lackey's text."""
    file = tmp_path / "log.txt"
    file.write_text(TEXT)
    return file


@pytest.fixture
def recorded(tmp_path: Path, log: Path) -> Path:
    """A trace."""
    out = tmp_path / "some.parquet"
    done = run("import", "lackey", log, "--out", out, "--window", "1k",
               "--instructions-per-second", "1M")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return out


def test_a_file_a_pipe_and_stdin_give_the_same_trace(tmp_path: Path, log: Path) -> None:
    from_file, from_pipe = tmp_path / "file.parquet", tmp_path / "pipe.parquet"
    done = run("import", "lackey", log, "--out", from_file)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "4,000 instructions" in done.stdout
    command = f"cat {log} | {CLI} trace import lackey - --out {from_pipe}"
    piped = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True)
    assert (piped.returncode, piped.stderr) == (0, "")
    assert from_file.read_bytes() == from_pipe.read_bytes()
    out = tmp_path / "stdin.parquet"
    assert run("import", "lackey", "-", "--out", out, text=TEXT).exit_code == 0
    assert out.read_bytes() == from_file.read_bytes()


def test_options_of_an_import_get_into_the_trace(tmp_path: Path, log: Path) -> None:
    out = tmp_path / "some.parquet"
    options = ("--window", "2k", "--instructions-per-second", "100M", "--command", "my server")
    assert run("import", "lackey", log, "--out", out, *options).exit_code == 0
    info = TraceFile(str(out)).info
    assert (info.window_instructions, info.instructions_per_second) == (2000, 100_000_000)
    assert info.command == "my server"


def test_a_trace_is_not_overwritten_unless_that_is_meant(recorded: Path, log: Path) -> None:
    before = recorded.read_bytes()
    done = run("import", "lackey", log, "--out", recorded)
    assert done.exit_code == 2
    assert "is there already; give --force" in error_line(done)
    assert recorded.read_bytes() == before
    assert run("import", "lackey", log, "--out", recorded, "--force").exit_code == 0
    assert recorded.read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.txt", "--out", "x.parquet"], "cannot read missing.txt: No such file"),
        ([".", "--out", "x.parquet"], "cannot read .: Is a directory"),
        (["/dev/null", "--out", "x.parquet"], "/dev/null holds no memory accesses"),
        (["log.txt", "--out", "no/where/x.parquet"], "cannot write no/where/x.parquet"),
        (["log.txt", "--out", "."], "it is a directory"),
        (["log.txt"], "Missing option '--out'"),
        (["log.txt", "--out", "x.parquet", "--window", "0"], "window of 0 instructions"),
        (["log.txt", "--out", "x.parquet", "--window", "many"], "write it like 100k"),
        (["log.txt", "--out", "x.parquet", "--instructions-per-second", "1"], "from 1M"),
    ],
)
def test_an_import_that_cannot_be(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(log.parent)
    done = run("import", "lackey", *arguments)
    assert done.exit_code == 2
    assert says in error_line(done)
    assert list(tmp_path.iterdir()) == [log]


def test_the_way_out_that_a_compressed_text_is_shown_works(tmp_path: Path) -> None:
    import gzip  # noqa: PLC0415

    text = tmp_path / "my log.txt.gz"
    text.write_bytes(gzip.compress(TEXT.encode()))
    out = tmp_path / "it's.parquet"
    line = error_line(run("import", "lackey", text, "--out", out))
    _, _, command = line.partition("is compressed (gzip); import it through a pipe: ")
    assert command.startswith("gzip -dc <")
    command = command.replace("pageferry", CLI, 1)
    done = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run("import", "lackey", "-", "--out", tmp_path / "plain.parquet", text=TEXT)
    assert out.read_bytes() == (tmp_path / "plain.parquet").read_bytes()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
def test_the_way_out_of_another_encoding_works(tmp_path: Path, encoding: str) -> None:
    text, out = tmp_path / "log.txt", tmp_path / "x.parquet"
    text.write_bytes(TEXT.encode(encoding))
    _, _, command = error_line(run("import", "lackey", text, "--out", out)).partition("pipe: ")
    command = command.replace("pageferry", CLI, 1)
    done = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4,000 instructions" in done.stdout


def test_a_refused_line_is_shown_as_it_is(tmp_path: Path) -> None:
    text = TEXT + " S  00001000,8  and   more\n"
    line = error_line(run("import", "lackey", "-", "--out", tmp_path / "x.parquet", text=text))
    assert "line 8002 is none of lackey's (' S  00001000,8  and   more')" in line


def test_a_text_without_instructions_and_its_pace(tmp_path: Path) -> None:
    text = "".join(f" S {0x600000 + i * 512 % 122880:08x},8\n" for i in range(60_000))
    out = tmp_path / "x.parquet"
    refused = error_line(run("import", "lackey", "-", "--out", out, text=text))
    assert "has no time: record it with them, or say how fast it goes" in refused
    assert refused.endswith("with: pageferry trace import lackey --pace 100M")
    done = run("import", "lackey", "-", "--out", out, "--pace", "10M", text=text)
    assert "60,000 accesses in" in done.stdout
    shown = " ".join(run("show", out).stdout.split())
    assert "instructions not recorded replayed in 6 ms, at 10,000,000 accesses a second" in shown
    assert "windows of 42,949 accesses" in shown
    both = ("--pace", "10M", "--instructions-per-second", "10M")
    line = error_line(run("import", "lackey", "-", "--out", out, "--force", *both, text=text))
    assert "--pace and --instructions-per-second" in line


def test_a_log_that_ends_within_a_line(tmp_path: Path) -> None:
    done = run("import", "lackey", "-", "--out", tmp_path / "x.parquet", text=TEXT + " S 1000")
    assert done.exit_code == 2
    assert error_line(done).startswith("error: stdin: line 8002 is cut off")
    assert list(tmp_path.iterdir()) == []


def wait_until_it_wants_more(pid: int, pipe: TextIO) -> None:
    """Poll until everything in the pipe was read, and the reader sleeps."""
    until = time.monotonic() + 120
    unread = array("i", [1])
    stat = Path(f"/proc/{pid}/stat")
    while unread[0] or stat.read_text().rsplit(")", 1)[1].split()[0] != "S":
        assert time.monotonic() < until
        time.sleep(0.02)
        fcntl.ioctl(pipe, termios.FIONREAD, unread)


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    subprocess.run(["mkfifo", fifo], check=True)
    out = tmp_path / "x.parquet"
    with running("trace", "import", "lackey", str(fifo), "--out", str(out)) as process:
        with fifo.open("w") as pipe:
            pipe.write(TEXT[:3000])
            pipe.flush()
            wait_until_it_wants_more(process.pid, pipe)
            assert len(list(tmp_path.iterdir())) == 2, "it writes beside the trace"
            interrupt(process)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 130
    assert said.strip() == "error: stopped"
    assert list(tmp_path.iterdir()) == [fifo]


def test_show_says_what_it_holds(recorded: Path) -> None:
    done = run("show", recorded)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = takewhile(str.strip, done.stdout.splitlines())
    named = [line.split("  ", 1) for line in lines if not line.startswith(" ")]  # a path may fold
    facts = {name: value.strip() for name, value in named}
    assert facts["recorded"] == "lackey: some program"
    assert facts["instructions"] == "4,000"
    assert facts["replayed in"] == "4 ms, at 1,000,000 instructions a second"
    assert facts["accesses"] == "8,000, of which 1,334 write"
    assert facts["pages"] == "407, of which 400 are written"
    assert facts["footprint"] == "1.6 MiB, with page tables 1.6 MiB"
    assert facts["suggested"] == "--memory 2MiB or more"
    regions = done.stdout.splitlines()[-2:]
    assert regions[0].split() == ["0x400000", "0x407000", "7", "0", "28.0", "KiB", "4,000", "0"]
    assert regions[1].split()[:4] == ["0x10000000", "0x10190000", "400", "400"]


TRACES = Path(__file__).parents[2] / "examples" / "traces"
SHIPPED = sorted(TRACES.glob("*.parquet"))
OF_ACCESSES = {"redis", "sqlite"}


def facts_of(file: Path) -> dict[str, str]:
    """What is shown of a trace, by name; a command line that folds is shown to its fold."""
    done = run("show", file)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = takewhile(str.strip, done.stdout.splitlines())
    return dict(re.split("  +", line, maxsplit=1) for line in lines if not line.startswith(" "))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_trace_that_is_shipped_is_sound(file: Path) -> None:
    """All of it is read, by the reader of its kind, and the page about it has its numbers."""
    of_accesses = file.stem in OF_ACCESSES
    assert type(open_trace(str(file))) is (TraceFile if of_accesses else WrittenPagesFile)
    facts, readme = facts_of(file), (TRACES / "README.md").read_text()
    if of_accesses:
        for name in ("instructions", "accesses", "rows", "pages"):
            for number in re.findall(r"\d+,[\d,]+\d", facts[name].partition(";")[0]):
                assert number in readme, f"{name} {number}"
        return
    table = [line for line in readme.splitlines() if line.startswith(f"| {file.stem} |")]
    pages, guest = facts["pages"].split()[0], facts["suggested"].split()[1]
    _, _, pages_told, *_, guest_told, _ = map(str.strip, table[0].split("|"))
    assert (pages_told, guest_told) == (pages, guest.replace("MiB", " MiB"))


def test_the_traces_that_are_shipped_are_small() -> None:
    assert len(SHIPPED) == 14
    assert sum(file.stat().st_size for file in SHIPPED) < 20 << 20
    assert all(0 < file.stat().st_size < 4 << 20 for file in SHIPPED)
    for script in TRACES.glob("*.sh"):
        shell = script.read_text().partition("\n")[0].rpartition("/")[2]
        subprocess.run([shell, "-n", script], check=True)


def test_what_cannot_be_shown(tmp_path: Path, log: Path, recorded: Path) -> None:
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(recorded.read_bytes()[:-9])
    for file, says in (
        (log, "not a Parquet file"),
        (cut, "truncated"),
        (tmp_path, "directory"),
        (tmp_path / "missing", "No such file"),
    ):
        done = run("show", file)
        assert done.exit_code == 2
        assert says in error_line(done)


def test_a_trace_migrates_and_is_verified(recorded: Path, tmp_path: Path, hosts: list[str]) -> None:
    target = tmp_path / "result.json"
    arguments = ["--trace", str(recorded), "--memory", "8MiB", "--link", "100Mbit/s",
                 "--policy", "xen-2009", "--max-rounds", "5"]  # fmt: skip
    done = pageferry("migrate", *arguments, *hosts, "--no-progress", "--json", str(target))
    assert done.returncode == 0, done.stderr
    result = json.loads(target.read_text())
    assert (result["verified"], result["outcome"]) == (True, "completed")
    digest = f"{TraceFile(str(recorded)).digest:016x}"
    assert result["config"]["trace"] == {"file": "some.parquet", "xxh3_64": digest}
    # Every page that the program writes comes again in later rounds, and no page besides but
    # the tables in which the processor sets accessed and dirty bits.
    later = [r["sent"] for r in result["rounds"][1:]]
    assert PAGES <= max(later) < PAGES + 10


def test_where_a_trace_lies_changes_nothing(
    recorded: Path, tmp_path: Path, hosts: list[str]
) -> None:
    """The document names no folder, and nothing that crossed knew of one."""
    deep = tmp_path / "somewhere" / "else" / recorded.name
    deep.parent.mkdir(parents=True)
    deep.write_bytes(recorded.read_bytes())
    documents = []
    for file in (recorded, deep):
        target = tmp_path / "result.json"
        done = pageferry("migrate", "--trace", str(file), "--memory", "8MiB", *hosts, "--quiet",
                         "--json", str(target))  # fmt: skip
        assert done.returncode == 0, done.stderr
        documents.append(target.read_bytes())
    assert documents[0] == documents[1]


def test_a_truncated_trace_is_refused(recorded: Path, tmp_path: Path, hosts: list[str]) -> None:
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(recorded.read_bytes()[:-9])
    done = pageferry("migrate", "--trace", str(cut), "--memory", "8MiB", *hosts, "--no-progress")
    assert done.returncode != 0
    assert "cut.parquet: it is truncated" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_guest_that_is_too_small_is_refused(recorded: Path, hosts: list[str]) -> None:
    done = pageferry("migrate", "--trace", str(recorded), "--memory", "1MiB", *hosts,
                     "--no-progress")  # fmt: skip
    assert done.returncode == 1
    assert "some.parquet needs 1.6 MiB" in done.stderr
    assert "use --memory 2MiB" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_a_trace_says_about_itself_is_only_text(tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    text = "==9== Command: ls \x1b]0;PWNED\x07\x1b[2J\u202e [bold]x\n" + TEXT
    assert run("import", "lackey", "-", "--out", out, text=text).exit_code == 0
    done = run("show", out)
    assert done.exit_code == 0
    assert "PWNED" in done.stdout
    assert "[bold]x" in done.stdout
    assert all(line.isprintable() for line in done.stdout.splitlines())
