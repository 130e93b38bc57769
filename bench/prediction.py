"""How far predictions are from the migrations: every workload and both shipped traces.

    python -m bench.prediction [--memory 64MiB] [--link 300Mbit/s] [--loads zipf,redis]

The migration runs with seed 0; the models are shown the same workload with seed 1, an earlier run
of it; of a trace the seed changes the data and not the accesses. Errors are
(predicted - measured) / measured.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog

from pageferry import in_process
from pageferry.predict.predict import from_log, from_rehearsal
from pageferry.predict.prediction import errors
from pageferry.request import MigrationOptions
from paging_core.units import parse_memory_bytes, parse_rate_bits_per_s
from paging_core.workloads.catalog import describe_workloads

TRACES = Path(__file__).parents[1] / "examples" / "traces"
PROGRAMS = ("redis", "sqlite")
"""Traces of accesses: shadow paging cannot replay those of written pages."""
SETTINGS: dict[str, dict[str, Any]] = {
    "shadow, blow, single pages, xen": {},
    "HAP, lazy, groups of 16, qemu": {"paging": "hap", "group_pages": 16, "policy": "qemu"},
}
MEASURES = ("total_s", "bytes_wire", "downtime_s")
MODELS = ("AVG", "HIST", "rehearsal")
_Found = TypeVar("_Found")


def loads(chosen: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What guests run, by short name: all that there is, or what was chosen of it."""
    named: dict[str, dict[str, Any]] = {w.name: {"workload": w.name} for w in describe_workloads()}
    named |= {name: {"trace": str(TRACES / f"{name}.parquet")} for name in PROGRAMS}
    if unknown := set(chosen) - set(named):
        sys.exit(f"error: no load {', '.join(sorted(unknown))}")
    return {name: load for name, load in named.items() if name in chosen or not chosen}


def _timed(action: Callable[[], _Found]) -> tuple[_Found, float]:
    began = time.perf_counter()
    found = action()
    return found, time.perf_counter() - began


def table(title: str, base: MigrationOptions, loads: dict[str, dict[str, Any]]) -> None:
    """Migrate, predict and print: one line for each load."""
    print(f"\n{title}")
    heads = "".join(f"{name:>24}" for name in ("total time", "bytes", "downtime"))
    print(f"{'':14}{'rounds':>20}{heads}{'wall, s':>20}")
    models = "".join(f"{name:>8}" for name in ("AVG", "HIST", "ours"))
    print(
        f"{'':14}{'is':>5}{'A':>5}{'H':>5}{'ours':>5}{models * 3}{'migr.':>8}{'log':>6}{'ours':>6}"
    )
    seen: dict[tuple[str, str], list[float]] = {(m, k): [] for m in MODELS for k in MEASURES}
    for name, load in loads.items():
        options = base.but(**load)
        before = options.but(seed=options["seed"] + 1)
        document, migrated_s = _timed(lambda: in_process.run(options))  # noqa: B023 - called here
        logged, logged_s = _timed(lambda: from_log(before))  # noqa: B023
        rehearsed, rehearsed_s = _timed(lambda: from_rehearsal(before))  # noqa: B023
        predictions = [*logged, rehearsed]
        off = {p.model: errors(p, document) for p in predictions}
        for (model, kind), before_this in seen.items():
            before_this.append(abs(off[model][kind]))
        rounds = "".join(f"{p.rounds:5}" for p in predictions)
        cells = "".join(f"{off[m][k]:+8.0%}" for k in MEASURES for m in MODELS)
        walls = f"{migrated_s:8.2f}{logged_s:6.2f}{rehearsed_s:6.2f}"
        print(f"{name:14}{len(document['rounds']):5}{rounds}{cells}{walls}", flush=True)
    medians = "".join(f"{statistics.median(seen[m, k]):8.0%}" for k in MEASURES for m in MODELS)
    worst = "".join(f"{max(seen[m, k]):8.0%}" for k in MEASURES for m in MODELS)
    print(f"{'median |error|':34}{medians}\n{'largest |error|':34}{worst}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--memory", default="64MiB")
    parser.add_argument("--link", default="300Mbit/s")
    parser.add_argument("--loads", default="", help="workloads and traces by name (default all)")
    given = parser.parse_args(arguments)
    base = MigrationOptions.of(
        memory_bytes=parse_memory_bytes(given.memory),
        link_bits_per_s=parse_rate_bits_per_s(given.link),
    )
    print(f"prediction: a guest of {given.memory} over {given.link}; history of another seed")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    chosen = loads([name for name in given.loads.split(",") if name])
    from_log(base.but(**next(iter(chosen.values()))))  # compiled
    for title, settings in SETTINGS.items():
        table(title, base.but(**settings), chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
