"""Each price, at the low and at the high end of its interval: by hand, for every event.

A case makes its event happen so many times as it says. From the low end to the high one the
accounts that it names grow by count × difference, all others not at all, and the guest's own clock
by the sum; everything else costs what it typically costs. And what a result says that the same
events take at the other end is what they took there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from pageferry.price_range import Charged, charged_of
from paging_core.config import (
    CleanPolicy,
    GroupPolicy,
    GuestConfig,
    GuestKind,
    Hypervisor,
    Paging,
    TrackerConfig,
    ViolationHandling,
)
from paging_core.costs import CostTable, Level
from paging_core.default_costs import DEFAULTS
from paging_core.events import Event
from paging_core.kvm_options import GroupOpening, SlotZap, SuperpageSplit
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from paging_core.workloads import ops
from tests.paging_core.reference.harness import Silent, run
from tests.paging_core.reference.programs import Act, Op, Program, mmap, munmap, read, write
from wire.convert import guest_cost

PAGE = 0x400
FRESH = PAGE + 4
"""Nothing is mapped there, in the same table."""
WRITES: Program = [write(PAGE + i) for i in range(4)]
REMAP: Program = [munmap(PAGE + 1, 1), mmap(PAGE + 1, 1), read(PAGE + 1)]
"""Its kernel stores the entry twice; see test_untracked_twin.py."""

BLOW = TrackerConfig(clean=CleanPolicy.BLOW, prefetch=False, out_of_sync=False)
PROTECT = TrackerConfig(clean=CleanPolicy.WRITE_PROTECT, prefetch=False, out_of_sync=False)
LAZY = TrackerConfig(Paging.HAP, CleanPolicy.LAZY)
EAGER = TrackerConfig(Paging.HAP, CleanPolicy.EAGER)
PML = TrackerConfig(Paging.HAP, CleanPolicy.EAGER, pml=True, pml_buffer_entries=2)
OUT_OF_SYNC = TrackerConfig(clean=CleanPolicy.WRITE_PROTECT, prefetch=False)
READ_AHEAD = TrackerConfig(clean=CleanPolicy.BLOW, out_of_sync=False)
FOURS = TrackerConfig(
    clean=CleanPolicy.WRITE_PROTECT, prefetch=False, group=GroupPolicy(4, d_bit_filter=True)
)
KVM = TrackerConfig(hypervisor=Hypervisor.KVM)
UFFD = replace(KVM, group_opening=GroupOpening.UFFD_SHARED)
UFFD_FOURS = replace(UFFD, group=GroupPolicy(4))
SLOTS = replace(KVM, clean=CleanPolicy.BLOW, slot_zap=SlotZap.SLOT)
FAST = TrackerConfig(
    Paging.HAP,
    hypervisor=Hypervisor.KVM,
    violations=ViolationHandling.FAST,
    split=SuperpageSplit.EAGER,
)


@dataclass(frozen=True)
class Case:
    """How to make an event happen.

    Attributes:
        tracker: of a guest that came from elsewhere and has written its four pages here once.
        counts: of the event, by the account that it is charged to: as logging is enabled and by
            all of `then`.
        then: what it runs while its writes are logged, and what is done to it.
        before: what it runs before that.
    """

    tracker: TrackerConfig
    counts: Mapping[str, int]
    then: Program = field(default_factory=list)
    before: Program = field(default_factory=list)


CASES: Mapping[Event, Case] = {
    Event.ACCESS: Case(PROTECT, {"base": 4}, WRITES),
    Event.GUEST_FAULT: Case(PROTECT, {"base": 1}, [write(FRESH)]),
    Event.GUEST_PAGE_CLEAR: Case(PROTECT, {"base": 1}, [write(FRESH)]),
    Event.GUEST_PAGE_COPY: Case(PROTECT, {"base": 1}, [write(PAGE)], before=[Op(ops.FORK, 1)]),
    Event.TLB_MISS_1D: Case(PROTECT, {"tlb": 4}, WRITES),
    Event.TLB_MISS_2D: Case(LAZY, {"tlb": 1}, [write(PAGE)]),
    Event.TLB_FLUSH: Case(PROTECT, {"tlb": 2}, [Act.CLEAN]),
    Event.EXIT: Case(PROTECT, {"fixup": 4}, WRITES),
    Event.FIXUP: Case(PROTECT, {"fixup": 4}, WRITES),
    Event.SHADOW_L1E_BUILD: Case(BLOW, {"rebuild": 4}, [read(PAGE + i) for i in range(4)]),
    Event.SHADOW_PREFETCH: Case(READ_AHEAD, {"rebuild": 3}, [read(PAGE)]),
    # All four levels, the root as the vCPU loads it again.
    Event.SHADOW_PAGE_BUILD: Case(BLOW, {"rebuild": 4}, [read(PAGE)]),
    Event.SHADOW_TEARDOWN_PAGE: Case(BLOW, {"teardown": 4}),
    # One entry in L4, L3 and L2 each, four in L1.
    Event.SHADOW_TEARDOWN_ENTRY: Case(BLOW, {"teardown": 7}),
    Event.EMULATED_WRITE: Case(PROTECT, {"base": 1}, [munmap(PAGE + 1, 1)]),
    # Four as logging is enabled, and the one that was dirty.
    Event.WRITE_PROTECT_FRAME: Case(PROTECT, {"write_protect": 5}, [write(PAGE), Act.CLEAN]),
    # It stays out of sync until logging is enabled; that the next store lets it go is logging's.
    Event.OUT_OF_SYNC: Case(OUT_OF_SYNC, {"rebuild": 1}, REMAP * 2, before=REMAP * 2),
    Event.RESYNC: Case(OUT_OF_SYNC, {"rebuild": 1}, REMAP * 2, before=REMAP * 2),
    Event.MARK_DIRTY: Case(FOURS, {"fixup": 1, "group": 3}, [write(PAGE)]),
    Event.GROUP_OPEN: Case(FOURS, {"group": 3}, [write(PAGE)]),
    Event.D_BIT_SCAN: Case(FOURS, {"group": 3}, [write(PAGE), Act.CLEAN]),
    Event.BITMAP_COPY: Case(PROTECT, {"bitmap": 2}, [Act.CLEAN, Act.PEEK]),
    Event.P2M_VIOLATION: Case(LAZY, {"fixup": 4}, WRITES),
    Event.P2M_SYNC: Case(LAZY, {"fixup": 4}, WRITES),
    Event.P2M_MISCONFIG: Case(LAZY, {"p2m": 1}, WRITES),
    # The one superpage as logging is enabled; the clean finds it split.
    Event.P2M_REARM_ENTRY: Case(EAGER, {"p2m": 1 + 512}, [write(PAGE), Act.CLEAN]),
    Event.P2M_SPLIT: Case(LAZY, {"p2m": 1}, WRITES),
    # The first write splits the superpage, which is write-protected under PML as well.
    Event.PML_FULL: Case(PML, {"pml": 2}, WRITES),
    Event.PML_ENTRY: Case(PML, {"pml": 4}, WRITES),
    # The sender's, and no guest's: tests/source_host/test_sender_work.py.
    Event.PAGE_DIGEST: Case(PROTECT, {}, WRITES),
    # The guest's own two, and the vCPU's as logging is enabled.
    Event.CR3_LOAD: Case(
        PROTECT,
        {"base": 2, "rebuild": 1},
        [Op(ops.SWITCH, 1), Op(ops.SWITCH, 0)],
        before=[Op(ops.FORK, 1)],
    ),
    Event.INVLPG: Case(PROTECT, {"base": 1}, [munmap(PAGE + 1, 1)]),
    # One write() and one read(), of a page that the first of them puts into the page cache.
    Event.GUEST_FILE_CALL: Case(
        PROTECT, {"base": 2}, [Op(ops.FILE_WRITE, 0, 7), Op(ops.FILE_READ, 0, PAGE << 12)]
    ),
    Event.UFFD_FAULT: Case(UFFD, {"fixup": 4}, WRITES),
    # The run of four around the page; then the host's own faults on the other three.
    Event.UFFD_OPEN: Case(UFFD_FOURS, {"group": 3}, [write(PAGE)]),
    Event.HOST_FAULT: Case(UFFD_FOURS, {"fixup": 3}, WRITES),
    # All frames as logging is enabled, and the one that was opened.
    Event.UFFD_PROTECT: Case(UFFD, {"write_protect": 512 + 1}, [write(PAGE), Act.CLEAN]),
    Event.SLOT_LOOKUP: Case(SLOTS, {"teardown": 512}),
    Event.P2M_FAST_FAULT: Case(FAST, {"fixup": 4}, WRITES),
}


def table(event: Event, level: Level) -> CostTable:
    """One end of one interval; all other prices are typical and exact."""
    prices = {each.name.lower(): DEFAULTS[each].typical for each in Event}
    cost, name = DEFAULTS[event], event.name.lower()
    charged = {Level.LOW: cost.low, Level.HIGH: cost.high}[level]
    return CostTable(prices | {name: charged}, {name: (cost.low, cost.high)})


def charged(case: Case, costs: CostTable) -> tuple[Charged, int]:
    """What a guest is charged for a case, by account, and how far its own clock went."""
    config = GuestConfig(512 * 4096, case.tracker, "silent", costs=costs)
    elsewhere = ModelGuest.boot(config, workload=Silent())
    run(elsewhere, [mmap(PAGE, 4), *WRITES])
    memory = GuestMemory(512)
    memory.words[:] = elsewhere.memory.words
    guest = ModelGuest.resume(memory, elsewhere.state(), Silent())
    run(guest, [*WRITES, *case.before])
    began_ns = guest.time_ns
    guest.start_tracking()
    run(guest, case.then)
    return charged_of(guest_cost(guest.counters()), GuestKind.MODEL), guest.time_ns - began_ns


def test_there_is_a_case_for_every_event() -> None:
    assert set(CASES) == set(Event)


@pytest.mark.parametrize("event", Event, ids=lambda event: event.name.lower())
def test_a_price_moves_its_accounts_by_count_times_difference(event: Event) -> None:
    case, cost = CASES[event], DEFAULTS[event]
    (low, low_ns), (high, high_ns) = (
        charged(case, table(event, level)) for level in (Level.LOW, Level.HIGH)
    )
    moved = {name: ns - low.time_ns[name] for name, ns in high.time_ns.items()}
    expected = {name: n * (cost.high - cost.low) for name, n in case.counts.items()}
    assert {name: ns for name, ns in moved.items() if ns} == expected
    assert high_ns - low_ns == sum(expected.values())
    assert low.at(table(event, Level.LOW), Level.HIGH).time_ns == high.time_ns
    assert high.at(table(event, Level.HIGH), Level.LOW).time_ns == low.time_ns
