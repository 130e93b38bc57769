"""How long `pageferry --help` takes, beside a bare start of the same Python.

python -m bench.cli_start [--runs 15]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the cases in turn, so that noise of the machine meets them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=15, help="of each (default 15)")
    runs = parser.parse_args(arguments).runs
    taken: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(runs):
        for name, words in CASES.items():
            taken[name].append(seconds(words))
    bare = statistics.median(taken["python -c pass"])
    print(f"start of the command line, medians of {runs}")
    print(f"{'':<34}{'seconds':>9}{'× bare':>9}")
    for name, measured in taken.items():
        median = statistics.median(measured)
        print(f"{name:<34}{median:>9.3f}{median / bare:>9.1f}")


if __name__ == "__main__":
    main()
