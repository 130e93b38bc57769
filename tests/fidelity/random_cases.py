"""Cases drawn at random: any workload, tables, tracker and length of a round together."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from paging_core.config import CleanPolicy, Hypervisor, TrackerConfig
from tests.fidelity.pair import Case
from tests.paging_core.reference.walker import ACCESSED, DIRTY, WRITABLE

ROUNDS = 3
"""Of one case."""
_EVERYDAY_ROUNDS = 60
_BITS = (
    WRITABLE | ACCESSED | DIRTY, WRITABLE | ACCESSED, WRITABLE | DIRTY, WRITABLE,
    ACCESSED | DIRTY, ACCESSED,
)  # fmt: skip
_PATTERNS = (
    "sequential", "uniform", "zipf", "hotcold", "phased", "read-mostly", "strided", "switches",
)  # fmt: skip


def rounds_wanted() -> int:
    """Rounds of random cases; `make fidelity` asks for 5,000."""
    return int(os.environ.get("PAGEFERRY_FIDELITY_ROUNDS", _EVERYDAY_ROUNDS))


def random_case(draw: np.random.Generator) -> Case:
    """Anything."""
    return Case(
        _workload(draw),
        int(draw.choice(_BITS)),
        _tracker(draw),
        memory_frames=3072,
        round_ops=int(draw.choice([50, 400, 1500, 4000])),
        seed=int(draw.integers(1 << 30)),
    )


def _workload(draw: np.random.Generator) -> str:
    pattern = str(draw.choice(_PATTERNS))
    writes = draw.choice(["0.02", "0.5", "1"])
    silent = draw.choice(["0", "0.5"])
    common = f"init=0,writes={writes},silent={silent},words={draw.choice([1, 8, 100])}"
    if pattern == "switches":
        turns = f"processes={draw.integers(2, 6)},switch_every={draw.choice([7, 60, 500])}"
        return f"switches:wss={draw.choice([256, 1024])}KiB,{turns},{common}"
    huge = int(draw.random() < 0.25)
    wss = draw.choice([2, 4] if huge else [1, 2, 5])
    return f"{pattern}:wss={wss}MiB,huge={huge},{common}"


def _tracker(draw: np.random.Generator) -> TrackerConfig:
    kvm = TrackerConfig(hypervisor=Hypervisor.KVM)
    way = draw.choice(["write-protect", "blow", "clear-log", "ring"])
    if way == "ring":
        return replace(kvm, dirty_ring=int(draw.choice([256, 512, 4096])))
    return replace(kvm, clean=CleanPolicy(way))
