"""How fast the model tracks: guest writes per second beside a bare dirty-bitmap loop.

Every figure is the best of many short runs, all sides in one process; quote the ratios. The
all-miss path touches a random page each time: beside it stands what memory allows for the
stores alone, which on a shared machine varies by a factor of three.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from paging_core.compiled import kernel
from paging_core.config import GroupPolicy, GuestConfig, MemoryFill, Paging, TrackerConfig
from paging_core.kernels.execute import execute
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from paging_core.workloads.ops import OP_DTYPE, WRITE, Ops

GUEST_MIB = 512
OPS = 1 << 16
REPEATS = 40
BASE_VA = 1 << 30
HIT_PAGES = 512
MISS_PAGES = 1 << 16


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


def _guest(paging: Paging, pages: int, group: int) -> ModelGuest:
    config = GuestConfig(
        GUEST_MIB << 20,
        TrackerConfig(paging=paging, group=GroupPolicy(group)),
        workload=f"uniform:wss={pages * 4096},writes=1",
        fill=MemoryFill.ZERO,
    )
    guest = ModelGuest.boot(config)
    guest.start_tracking()
    return guest


def _nothing() -> None:
    """Before a run of which nothing has to be put back."""


def _best(run: Callable[[], object], before: Callable[[], object] = _nothing) -> float:
    """Million writes per second of the quickest of REPEATS runs of OPS writes."""
    best_s = float("inf")
    for _ in range(REPEATS):
        before()
        start = time.perf_counter()
        run()
        best_s = min(best_s, time.perf_counter() - start)
    return OPS / best_s / 1e6


def _runner(guest: ModelGuest, ops: Ops) -> Callable[[], object]:
    return partial(execute, guest.machine.record, ops, 0, 2**62)


def _cases() -> Iterator[tuple[str, float]]:
    bitmap = np.zeros(1 << 12, np.int64)
    memory = GuestMemory(MISS_PAGES)
    memory.populate()
    for label, pages in (("TLB hits, 2 MiB", HIT_PAGES), ("all-miss, 256 MiB", MISS_PAGES)):
        ops = _writes(pages, seed=1)
        yield f"bare bitmap loop, {label}", _best(partial(_bare_bitmap, ops, bitmap))
        stores = partial(_bare_stores, ops, memory.words.reshape(-1))
        yield f"stores to guest memory alone, {label}", _best(stores)
        for paging in Paging:
            guest = _guest(paging, pages, 1)
            run = _runner(guest, ops)
            run()
            yield f"{paging}, {label}", _best(run)
            if pages == MISS_PAGES:
                yield f"{paging}, {label}, cleaned before each run", _best(run, guest.clean)
                grouped = _guest(paging, pages, 64)
                rate = _best(_runner(grouped, ops), grouped.clean)
                yield f"{paging}, {label}, cleaned, groups of 64", rate


def main() -> None:
    """Print the table."""
    limit = 0.0
    print(f"{'guest writes':58}{'million/s':>10}{'of the limit':>14}")
    for label, rate in _cases():
        if label.startswith("bare"):
            limit = rate
        print(f"{label:58}{rate:10.1f}{rate / limit:14.2f}")


if __name__ == "__main__":
    main()
