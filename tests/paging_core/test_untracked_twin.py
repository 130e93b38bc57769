"""What logging costs, against a twin that runs the same operations and logs nothing.

Prices and guests are those of test_costs_hand_worked.py.
"""

from __future__ import annotations

import pytest

from paging_core.config import CleanPolicy, GuestConfig, Paging, TrackerConfig
from paging_core.costs import CostTable
from paging_core.events import N_EVENTS, Event
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from paging_core.workloads import ops
from tests.paging_core.reference.harness import Silent, run
from tests.paging_core.reference.programs import Op, Program, mmap, munmap, read, write
from tests.paging_core.test_costs_hand_worked import PAGE, PRICES, spent

EXIT, BUILD, PAGE_BUILD = 1000, 900, 2000
FORK_1, TO_0, TO_1 = Op(ops.FORK, 1), Op(ops.SWITCH, 0), Op(ops.SWITCH, 1)


def moved(tracker: TrackerConfig, before: Program) -> ModelGuest:
    """A guest that ran a program elsewhere: tables as that left them, and no shadow yet."""
    config = GuestConfig(512 * 4096, tracker, "silent", costs=CostTable(PRICES))
    elsewhere = ModelGuest.boot(config, workload=Silent())
    run(elsewhere, before)
    memory = GuestMemory(512)
    memory.words[:] = elsewhere.memory.words
    return ModelGuest.resume(memory, elsewhere.state(), Silent())


def shadow(clean: CleanPolicy = CleanPolicy.BLOW, *, out_of_sync: bool = False) -> TrackerConfig:
    return TrackerConfig(Paging.SHADOW, clean, prefetch=False, out_of_sync=out_of_sync)


def events_of(guest: ModelGuest) -> dict[str, int]:
    """Events by name, whoever paid for them."""
    time = guest.machine.core["time"][0]
    both = time["base_events"] + time["cause_events"].reshape(-1, N_EVENTS).sum(axis=0)
    return {event.name.lower(): int(both[event]) for event in Event if both[event]}


def extra_events(tracked: ModelGuest, twin: ModelGuest) -> dict[str, int]:
    """What the tracked guest had more of than its twin; less is negative."""
    more, less = events_of(tracked), events_of(twin)
    difference = {name: more.get(name, 0) - less.get(name, 0) for name in {*more, *less}}
    return {name: n for name, n in difference.items() if n}


REMAP: Program = [munmap(PAGE + 1, 1), mmap(PAGE + 1, 1), read(PAGE + 1)]
"""Its kernel stores the entry and the count of the frame, twice, and a page of zeros."""


@pytest.mark.parametrize("clean", [CleanPolicy.BLOW, CleanPolicy.WRITE_PROTECT])
def test_a_table_going_out_of_sync_again_is_not_charged_to_tracking(clean: CleanPolicy) -> None:
    """Xen resyncs at an INVLPG and takes write access to the table away (_sh_resync, oos.c).

    So each edit of the table faults again, logged or not. Both edits of REMAP let the table go out
    of sync; the INVLPG of the munmap and the fault of the read bring it back. The fresh page costs
    two faults that build an entry: its kernel's, as it clears it, and the read's.
    """
    tracker = shadow(clean, out_of_sync=True)
    guest, twin = (moved(tracker, [mmap(PAGE, 2), write(PAGE), write(PAGE + 1)]) for _ in "ab")
    for one in (guest, twin):
        run(one, REMAP * 2)
    guest.start_tracking()
    for one in (guest, twin):
        run(one, REMAP * 2)  # from here on all that is written is dirty
    unsync, resync, build = EXIT + 500 + 300, 550, EXIT + BUILD
    base = 1 + 5 * 30 + 100 + 2 * unsync + 2 * resync + 2 * build
    marks = 3 * 12  # of frames that are dirty already: one for each fault of a write
    assert spent(twin, REMAP) == {"base": base}
    assert spent(guest, REMAP) == {"base": base, "fixup": marks}


def test_a_blow_unpins_the_root_in_use_and_the_next_switch_destroys_it() -> None:
    """Xen: shadow_blow_tables unpins all, sh_set_toplevel_shadow puts the vCPU's reference."""
    guest = moved(shadow(), [mmap(PAGE, 1), write(PAGE), FORK_1])
    both: Program = [read(PAGE), TO_1, read(PAGE), TO_0]
    run(guest, both)
    guest.start_tracking()
    path = 3 * PAGE_BUILD + EXIT + BUILD
    assert spent(guest, [read(PAGE)]) == {"base": 1 + 30, "rebuild": path}
    tree = 4 * 1500 + 4 * 11  # L4 to L1, with an entry each
    assert spent(guest, [TO_1]) == {"teardown": tree, "rebuild": PAGE_BUILD}
    assert spent(guest, [TO_0]) == {"rebuild": PAGE_BUILD}  # root 1 was pinned as it was loaded
    assert spent(guest, [read(PAGE)]) == {"base": 1 + 30, "rebuild": path}
    assert spent(guest, [TO_1, read(PAGE)]) == {"base": 1 + 30, "rebuild": path}
    run(guest, [TO_0])
    assert spent(guest, both) == {"base": 2 * (1 + 30)}


def test_a_root_loaded_again_is_pinned_again() -> None:
    """A full flush of its TLB is a guest's load of the CR3 that it has; fork ends with one."""
    guest = moved(shadow(), [mmap(PAGE, 1), write(PAGE)])
    guest.start_tracking()
    run(guest, [FORK_1, read(PAGE), TO_1])
    assert spent(guest, [TO_0, read(PAGE)]) == {"base": 1 + 30}


def test_a_root_that_a_full_pool_unpinned_is_not_torn_down_by_tracking() -> None:
    """32 shadows do not hold two processes of 20 tables each; logging has nothing to do with it."""
    tracker = TrackerConfig(prefetch=False, shadow_pool_frames=32)
    pages = [PAGE + 512 * i for i in range(20)]
    touch: Program = [read(page) for page in pages]
    guest = moved(tracker, [*[write(page) for page in pages], FORK_1])
    run(guest, [*touch, TO_1, *touch, TO_0])
    guest.start_tracking()
    run(guest, [*touch, TO_1, *touch, TO_0, *touch])
    before = guest.counters().tracking_ns["teardown"]
    run(guest, [TO_1, *touch, TO_0, *touch])
    assert guest.counters().tracking_ns["teardown"] == before


def test_xens_count_of_faults_leaves_emulated_writes_out() -> None:
    """sh_page_fault counts at its end (fault_count++), and goes to the emulator before it."""
    guest = moved(shadow(), [mmap(PAGE, 1), write(PAGE)])
    guest.start_tracking()
    run(guest, [write(PAGE), mmap(PAGE + 1, 1)])
    faults = guest.counters().faults
    assert (faults["write_build"], faults["emulated_write"]) == (3, 1)
    assert guest.clean().fault_count == 3  # the write, the count of references, the cleared page


def test_an_entry_that_the_guest_changed_is_built_anew_in_either_world() -> None:
    """After a blow its table is not shadowed and its stores are not emulated.

    They would be without logging, and would take the shadow's entry away, so the fault of the
    read is the guest's own; the three tables above it are not.
    """
    guest, twin = (moved(shadow(), [mmap(PAGE, 2), write(PAGE), write(PAGE + 1)]) for _ in "ab")
    for one in (guest, twin):
        run(one, [read(PAGE), *REMAP, write(PAGE + 1)])
    guest.start_tracking()
    for one in (guest, twin):
        run(one, REMAP[:2])
    found = spent(guest, REMAP[2:])
    assert found == {
        "base": 1 + 30 + EXIT + BUILD,
        "rebuild": 3 * PAGE_BUILD,
        "tlb": 5000,  # the kernel wrote to the table meanwhile, and must not any more
    }
    assert spent(twin, REMAP[2:]) == {"base": found["base"]}


def test_a_fault_on_a_table_that_the_twin_emulates_is_a_fault_of_either() -> None:
    """After a blow the store to a table is a fault that builds; the twin's is one that emulates."""
    guest, twin = (moved(shadow(), [mmap(PAGE, 2), write(PAGE), write(PAGE + 1)]) for _ in "ab")
    for one in (guest, twin):
        run(one, [read(PAGE), *REMAP * 2])
    guest.start_tracking()
    before, events, twins = guest.counters(), events_of(guest), events_of(twin)
    for one in (guest, twin):
        run(one, REMAP[:1])
    assert events_of(guest)["exit"] - events["exit"] == events_of(twin)["exit"] - twins["exit"] + 1
    after = guest.counters()
    rebuilt = after.tracking_ns["rebuild"] - before.tracking_ns["rebuild"]
    # The kernel's map: L3, L2 and the splintered superpage, and the entry of the counts; the
    # store to the table itself is charged to nobody.
    assert rebuilt == 3 * PAGE_BUILD + EXIT + BUILD
    emulated = events_of(twin)["emulated_write"] - twins["emulated_write"]
    assert emulated == 1


def test_a_table_that_became_data_while_it_was_not_shadowed_is_tracked_as_data() -> None:
    """The child's tables are freed after a blow and handed out again: to a page that is written."""
    guest = moved(shadow(), [mmap(PAGE, 1), write(PAGE), FORK_1])
    run(guest, [read(PAGE), TO_1, read(PAGE), TO_0])
    guest.start_tracking()
    run(guest, [Op(ops.EXIT, 1), mmap(PAGE + 1, 400)])  # every free frame, the tables' among them
    run(guest, [write(PAGE + 1 + i) for i in range(400)])
    guest.clean()
    run(guest, [read(PAGE + 1 + i) for i in range(400)])
    found = spent(guest, [write(PAGE + 1 + i, 2) for i in range(400)])
    assert found["fixup"] == 400 * (EXIT + 500 + 12)
