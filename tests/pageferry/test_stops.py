"""Ctrl-C and SIGTERM end a command in one line, in the middle of what would take hours.

None of these commands would come to its next step while a test waits: one that looks up only
between two steps fails here by its deadline, however loaded the machine is.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from pageferry.cli.shell import Lazy, LazyGroup
from pageferry.interrupts import Interrupts
from tests.pageferry.hosts import children, read_until, running, wait_until_gone

STOPS_S = 60
BUSY = ["--memory", "32MiB", "--fill", "random", "--workload", "uniform:write_rate=50M,wss=16MiB"]
BOTH = pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


def wait_until_busy(pid: int, cpu_s: float) -> None:
    """Wait until a process has worked for so long: beyond its imports."""
    until_s = time.monotonic() + 120
    ticks = os.sysconf("SC_CLK_TCK")
    while True:
        assert time.monotonic() < until_s, "it never began"
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if (int(fields[11]) + int(fields[12])) / ticks > cpu_s:
            return
        time.sleep(0.05)


@BOTH
@pytest.mark.parametrize("link", ["10kbit/s", "1bit/s"])
def test_a_message_on_the_modelled_link(signum: signal.Signals, code: int, link: str) -> None:
    with running("migrate", *BUSY, "--link", link) as process:
        read_until(process, "pre-copy")
        hosts = children(process.pid)
        process.send_signal(signum)
        _, said = process.communicate(timeout=STOPS_S)
    assert process.returncode == code
    assert said.splitlines()[-1].startswith("error: cancelled before the hand-over")
    wait_until_gone(hosts)


def test_a_warm_up() -> None:
    with running("migrate", *BUSY, "--warmup", "60min") as process:
        read_until(process, "booting")
        time.sleep(2)  # at its boot, or at its warm-up: both end
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=STOPS_S)
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("error: ")


def test_a_second_ctrl_c_ends_at_once() -> None:
    with running("migrate", *BUSY, "--link", "10kbit/s") as process:
        read_until(process, "pre-copy")
        hosts = children(process.pid)
        os.kill(hosts[0], signal.SIGSTOP)  # it will not answer a cancel
        os.kill(hosts[1], signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        read_until(process, "cancelling")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=STOPS_S)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "error: stopped at once, before the migration came to an end"
    wait_until_gone(hosts)


@BOTH
def test_a_prediction(signum: signal.Signals, code: int) -> None:
    with running("predict", *BUSY, "--link", "1kbit/s") as process:
        wait_until_busy(process.pid, 4)
        process.send_signal(signum)
        _, said = process.communicate(timeout=STOPS_S)
    assert process.returncode == code
    assert said == "error: stopped\n"


def run(commands: Sequence[click.Command], name: str) -> int:
    """A group of commands as a program; its exit code."""
    for command in commands:
        globals()[f"_{command.name}"] = command
    lazy = {str(one.name): Lazy(f"{__name__}:_{one.name}", "For a test.") for one in commands}
    with pytest.raises(SystemExit) as ended:
        LazyGroup(lazy=lazy).main([name])
    return int(str(ended.value.code))


@BOTH
def test_a_library_that_makes_another_error_of_it(
    signum: signal.Signals, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    @click.command("query")
    def query() -> None:
        try:
            os.kill(os.getpid(), signum)
        except KeyboardInterrupt:
            raise RuntimeError("Query interrupted") from None

    assert run([query], "query") == code
    assert capfd.readouterr().err == "error: stopped\n"


def test_an_error_that_no_signal_made_stays_one() -> None:
    @click.command("bug")
    def bug() -> None:
        raise RuntimeError("a bug")

    with Interrupts(), pytest.raises(RuntimeError, match="a bug"):
        run([bug], "bug")
