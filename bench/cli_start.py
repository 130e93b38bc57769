"""How long `pageferry --help` takes, beside a bare start of the same Python.

python -m bench.cli_start
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 15
CASES = {
    "python -c pass": ["-c", "pass"],
    "import click": ["-c", "import click"],
    "pageferry --help": ["-m", "pageferry.cli.main", "--help"],
    "pageferry migrate --help": ["-m", "pageferry.cli.main", "migrate", "--help"],
    "import numba (not on that path)": ["-c", "import numba"],
}


def seconds(arguments: list[str]) -> float:
    """Wall time of one process from start to end."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Measure the cases in turn, so that noise of the machine meets them all."""
    taken: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(RUNS):
        for name, arguments in CASES.items():
            taken[name].append(seconds(arguments))
    bare = statistics.median(taken["python -c pass"])
    print(f"start of the command line, medians of {RUNS}")
    print(f"{'':<34}{'seconds':>9}{'× bare':>9}")
    for name, measured in taken.items():
        median = statistics.median(measured)
        print(f"{name:<34}{median:>9.3f}{median / bare:>9.1f}")


if __name__ == "__main__":
    main()
