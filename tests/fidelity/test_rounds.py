"""The model of KVM's shadow MMU against KVM's: every count, every dirty frame, every byte.

Where the order of accesses is fixed, and it is here, nothing may differ.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paging_core.config import CleanPolicy, Hypervisor, TrackerConfig
from tests.fidelity.differences import differences
from tests.fidelity.pair import Case, pair
from tests.fidelity.random_cases import ROUNDS, random_case, rounds_wanted
from tests.paging_core.reference.walker import ACCESSED, DIRTY, WRITABLE

W, A, D = WRITABLE, ACCESSED, DIRTY
KVM = TrackerConfig(hypervisor=Hypervisor.KVM)
CLEANS = (CleanPolicy.WRITE_PROTECT, CleanPolicy.BLOW, CleanPolicy.CLEAR_LOG)
WORKLOADS = (
    "sequential:wss=2MiB,init=0",
    "uniform:wss=2MiB,init=0",
    "zipf:wss=2MiB,init=0",
    "strided:wss=4MiB,stride=8KiB,init=0",
    "read-mostly:wss=2MiB,init=0",
    "switches:wss=512KiB,processes=3,switch_every=200,init=0",
    "uniform:wss=4MiB,huge=1,init=0",
)


def hold(case: Case, rounds: int) -> None:
    """Run rounds on both sides; the first difference fails."""
    with pair(case) as both:
        for number in range(rounds):
            model, real = both.round()
            assert not (found := differences(model, real)), f"round {number}: {found}"
        assert both.memory_differs() == []


@pytest.mark.parametrize("bits", [W | A | D, W | A, W, A], ids=["WAD", "WA", "W", "A"])
@pytest.mark.parametrize("clean", CLEANS, ids=[one.value for one in CLEANS])
@pytest.mark.parametrize(
    "workload", WORKLOADS, ids=[one.partition(",init")[0] for one in WORKLOADS]
)
def test_rounds_are_the_same(workload: str, clean: CleanPolicy, bits: int) -> None:
    hold(Case(workload, bits, replace(KVM, clean=clean)), ROUNDS)


@pytest.mark.parametrize("bits", [W | A | D, W | A, W], ids=["WAD", "WA", "W"])
@pytest.mark.parametrize("entries", [256, 1024])
def test_rounds_with_a_dirty_ring_are_the_same(entries: int, bits: int) -> None:
    hold(Case(WORKLOADS[1], bits, replace(KVM, dirty_ring=entries)), ROUNDS)


@pytest.mark.parametrize("seed", range(rounds_wanted() // ROUNDS))
def test_random_cases_are_the_same(seed: int) -> None:
    hold(random_case(np.random.default_rng(seed)), ROUNDS)
