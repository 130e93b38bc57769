"""How fast the model tracks: guest writes per second beside a bare dirty-bitmap loop.

    python -m bench.tracking [--memory 512MiB] [--repeats 40]

Every figure is the best of many short runs, all sides in one process; quote the ratios. The
all-miss path touches a random page each time: beside it stands what memory allows for the
stores alone, which on a shared machine varies by a factor of three.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from paging_core.compiled import kernel
from paging_core.config import GroupPolicy, GuestConfig, MemoryFill, Paging, TrackerConfig
from paging_core.kernels.execute import execute
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from paging_core.units import FRAME_BYTES, parse_memory_bytes
from paging_core.workloads.ops import OP_DTYPE, WRITE, Ops

OPS = 1 << 16
BASE_VA = 1 << 30
HIT_PAGES = 512


@kernel
def _bare_bitmap(ops: Ops, bitmap: npt.NDArray[np.int64]) -> None:
    """The limit: mark the page of each write in a bitmap, and nothing else."""
    for i in range(ops.shape[0]):
        page = (ops[i].address >> 12) & 0x3FFFF
        bitmap[page >> 6] |= 1 << (page & 63)


@kernel
def _bare_stores(ops: Ops, memory: npt.NDArray[np.int64]) -> None:
    """What memory itself allows: the same random stores, and no guest around them."""
    for i in range(ops.shape[0]):
        memory[(ops[i].address >> 3) & (memory.shape[0] - 1)] = ops[i].value


def _writes(pages: int, seed: int) -> Ops:
    rng = np.random.default_rng(seed)
    ops = np.zeros(OPS, OP_DTYPE)
    ops["address"] = BASE_VA + rng.integers(0, pages * 512, OPS) * 8
    ops["value"] = rng.integers(0, 2**62, OPS)
    ops["kind"] = WRITE
    ops["words"] = 1
    return ops


def _guest(paging: Paging, pages: int, group: int, memory_bytes: int) -> ModelGuest:
    config = GuestConfig(
        memory_bytes,
        TrackerConfig(paging=paging, group=GroupPolicy(group)),
        workload=f"uniform:wss={pages * 4096},writes=1",
        fill=MemoryFill.ZERO,
    )
    guest = ModelGuest.boot(config)
    guest.start_tracking()
    return guest


def _nothing() -> None:
    """Before a run of which nothing has to be put back."""


def _best(repeats: int, run: Callable[[], object], before: Callable[[], object]) -> float:
    """Million writes per second of the quickest of some runs of OPS writes."""
    best_s = float("inf")
    for _ in range(repeats):
        before()
        start = time.perf_counter()
        run()
        best_s = min(best_s, time.perf_counter() - start)
    return OPS / best_s / 1e6


def _runner(guest: ModelGuest, ops: Ops) -> Callable[[], object]:
    return partial(execute, guest.machine.record, ops, 0, 2**62)


def _cases(memory_bytes: int, repeats: int) -> Iterator[tuple[str, float]]:
    """With a set that the TLB holds, and with half of the guest's memory."""
    bitmap = np.zeros(1 << 12, np.int64)
    miss_pages = memory_bytes // FRAME_BYTES // 2
    memory = GuestMemory(miss_pages)
    memory.populate()
    for what, pages in (("TLB hits", HIT_PAGES), ("all-miss", miss_pages)):
        label = f"{what}, {pages * FRAME_BYTES >> 20} MiB"
        ops = _writes(pages, seed=1)
        yield (
            f"bare bitmap loop, {label}",
            _best(repeats, partial(_bare_bitmap, ops, bitmap), _nothing),
        )
        stores = partial(_bare_stores, ops, memory.words.reshape(-1))
        yield f"stores to guest memory alone, {label}", _best(repeats, stores, _nothing)
        for paging in Paging:
            guest = _guest(paging, pages, 1, memory_bytes)
            run = _runner(guest, ops)
            run()
            yield f"{paging}, {label}", _best(repeats, run, _nothing)
            if what == "all-miss":
                rate = _best(repeats, run, guest.clean)
                yield f"{paging}, {label}, cleaned before each run", rate
                grouped = _guest(paging, pages, 64, memory_bytes)
                rate = _best(repeats, _runner(grouped, ops), grouped.clean)
                yield f"{paging}, {label}, cleaned, groups of 64", rate


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--memory", default="512MiB", help="of guests (default 512MiB)")
    parser.add_argument("--repeats", type=int, default=40, help="of each (default 40)")
    chosen = parser.parse_args(arguments)
    limit = 0.0
    print(f"{'guest writes':58}{'million/s':>10}{'of the limit':>14}")
    for label, rate in _cases(parse_memory_bytes(chosen.memory), chosen.repeats):
        if label.startswith("bare"):
            limit = rate
        print(f"{label:58}{rate:10.1f}{rate / limit:14.2f}")


if __name__ == "__main__":
    main()
