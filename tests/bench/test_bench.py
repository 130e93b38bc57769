"""Every benchmark runs: as it is called, with the smallest sizes that it takes."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from bench.__main__ import names

SMALLEST: dict[str, tuple[list[str], list[str]]] = {
    "adaptive": (["--memory", "8MiB", "--loads", "idle"], ["idle", "median of the loads"]),
    "analysis": (["--events", "20000"], ["opened frames", "analysed in"]),
    "cli_start": (["--runs", "1"], ["pageferry --help", "import numba"]),
    "data_path": (["--memory", "4MiB", "--runs", "1"], ["bare stream", "downtime, total"]),
    "flow": (["--memory", "4MiB", "--runs", "1"], ["shadow, groups of 64", "hap, groups of 1"]),
    "memory": (["--sizes", "4MiB"], ["source, shadow", "destination, hap"]),
    "prediction": (["--memory", "8MiB", "--loads", "idle"], ["idle", "largest |error|"]),
    "process_guest": (["--rounds", "1", "--wss", "1MiB"], ["untracked", "uffd-async"]),
    "proof": (["--memory", "1MiB", "--runs", "1"], ["proof (GMAC", "SHA-256"]),
    "recording": (["--memory", "4MiB", "--rounds", "1"], ["4 KiB pages", "huge pages"]),
    "sweep": (["--points", "1", "--runs", "1"], ["one worker", "two workers"]),
    "tracking": (["--memory", "16MiB", "--repeats", "1"], ["bare bitmap loop", "groups of 64"]),
}
"""Options that make it small, and beginnings of lines that it prints then."""


def test_every_benchmark_is_run() -> None:
    assert sorted(SMALLEST) == names()


@pytest.mark.parametrize("name", SMALLEST)
def test_a_benchmark_runs_and_measures(name: str) -> None:
    options, lines = SMALLEST[name]
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", *options],
        capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    if "not measured" in done.stderr:
        pytest.skip(done.stderr)  # what this machine cannot do
    assert done.returncode == 0, done.stderr
    for words in lines:
        found = [line for line in done.stdout.splitlines() if words in line]
        assert found, done.stdout
        assert all(re.search(r"\d", line.replace(words, "")) for line in found)
    assert "[info" not in done.stdout + done.stderr, "logs are no part of the table"
