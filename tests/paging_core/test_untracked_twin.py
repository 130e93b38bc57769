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


EITHER = pytest.mark.parametrize("clean", [CleanPolicy.BLOW, CleanPolicy.WRITE_PROTECT])
LOAD, INVLPG = EXIT + 820, EXIT + 240
UNSYNC = EXIT + 500 + 300
"""A fault on a read-only entry, and the snapshot."""


@EITHER
def test_a_table_out_of_sync_stays_so_through_faults_and_invlpg(clean: CleanPolicy) -> None:
    """Xen: sh_invlpg takes one entry away; a fault notes what it built in the snapshot.

    So REMAP edits the table twice without a fault. The INVLPG of its munmap exits, and its fresh
    page costs two faults that build an entry: its kernel's, as it clears it, and the read's.
    """
    tracker = shadow(clean, out_of_sync=True)
    guest, twin = (moved(tracker, [mmap(PAGE, 2), write(PAGE), write(PAGE + 1)]) for _ in "ab")
    for one in (guest, twin):
        run(one, REMAP * 2)
    guest.start_tracking()
    for one in (guest, twin):
        run(one, REMAP * 2)  # from here on all that is written is dirty
    base = 1 + 2 * 30 + 100 + INVLPG + 2 * (EXIT + BUILD)
    assert spent(twin, REMAP) == {"base": base}
    assert spent(guest, REMAP) == {"base": base, "fixup": 12}  # the mark of the fresh page


def test_a_table_goes_out_of_sync_again_after_cr3_was_loaded() -> None:
    """sh_update_cr3 brings it back (shadow_resync_current_vcpu) and takes write access away.

    Two loads, of roots that have shadows. Of the two edits that follow the first faults.
    """
    tracker = shadow(out_of_sync=True)
    guest = moved(tracker, [mmap(PAGE, 2), write(PAGE), write(PAGE + 1), FORK_1])
    run(guest, [TO_1, TO_0, *REMAP * 2])
    assert spent(guest, [TO_1, TO_0]) == {"base": 2 * LOAD + 550}
    misses = 4 * 30  # of the table, the counts, the page that is cleared, the read
    changed = 1 + misses + 100 + INVLPG + 2 * (EXIT + BUILD)
    assert spent(guest, REMAP) == {"base": changed + UNSYNC}


@EITHER
@pytest.mark.parametrize("after", [[], [TO_1, TO_0], [TO_1, TO_0, *REMAP, TO_1, TO_0]])
def test_a_clean_leaves_the_tables_of_the_twin_out_of_sync(
    clean: CleanPolicy, after: Program
) -> None:
    """Nothing that a clean does is charged to the guest itself, nor what it makes of REMAP later.

    A blow destroys the shadow of a table, which then is out of sync no more (shadow_demote); the
    twin's goes on without a fault, until CR3 is loaded, which takes write access away there too.
    Where the shadow is gone that load has nothing to resync, and the store after it finds no entry
    instead of a read-only one: that much less the guest pays than its twin.
    """
    guest = moved(shadow(clean, out_of_sync=True), [mmap(PAGE, 2), write(PAGE), FORK_1])
    run(guest, [TO_1, read(PAGE), TO_0, read(PAGE), *REMAP * 2])
    guest.keep_twin()
    guest.start_tracking()
    for program in (REMAP, after, REMAP):
        run(guest, program)
        guest.clean()
    run(guest, REMAP)
    counters = guest.counters()
    loads = after.count(TO_1)
    saved = 550 + UNSYNC - (EXIT + BUILD) if clean is CleanPolicy.BLOW else 0
    assert counters.untracked_ns is not None and counters.base_ns is not None  # noqa: PT018
    assert counters.events_by["untracked"].get("resync", 0) == loads
    assert counters.untracked_ns - counters.base_ns == loads * saved


def test_enabling_pins_the_root_again_and_a_clean_does_not() -> None:
    """Xen: shadow_blow_tables unpins all; as the mode changes update_cr3 pins the root.

    A clean only blows: the next load of CR3 puts the vCPU's reference to the old root, its last
    (sh_set_toplevel_shadow), and all goes that was built below it since.
    """
    guest = moved(shadow(), [mmap(PAGE, 1), write(PAGE), FORK_1])
    both: Program = [read(PAGE), TO_1, read(PAGE), TO_0]
    run(guest, both)
    guest.start_tracking()
    path = 3 * PAGE_BUILD + EXIT + BUILD
    assert spent(guest, [read(PAGE)]) == {"base": 1 + 30, "rebuild": path}
    assert spent(guest, [TO_1, TO_0]) == {"base": 2 * LOAD, "rebuild": PAGE_BUILD}
    guest.clean()
    assert spent(guest, [read(PAGE)]) == {"base": 1 + 30, "rebuild": path}
    tree = 4 * 1500 + 4 * 11  # L4 to L1, with an entry each
    assert spent(guest, [TO_1]) == {"base": LOAD, "teardown": tree, "rebuild": PAGE_BUILD}
    # Root 1 was pinned as it was loaded.
    assert spent(guest, [TO_0]) == {"base": LOAD, "rebuild": PAGE_BUILD}
    assert spent(guest, [read(PAGE)]) == {"base": 1 + 30, "rebuild": path}
    assert spent(guest, [TO_1, read(PAGE)]) == {"base": LOAD + 1 + 30, "rebuild": path}
    run(guest, [TO_0])
    assert spent(guest, both) == {"base": 2 * (1 + 30) + 2 * LOAD}


def test_disabling_lets_go_of_a_root_that_a_clean_unpinned() -> None:
    """sh_disable_log_dirty changes the mode as well."""
    guest = moved(shadow(), [mmap(PAGE, 1), write(PAGE)])
    run(guest, [read(PAGE)])
    guest.start_tracking()
    guest.clean()
    before = events_of(guest)
    guest.stop_tracking()
    after = events_of(guest)
    changed = {name: n - before.get(name, 0) for name, n in after.items() if n != before.get(name)}
    assert changed == {"cr3_load": 1, "shadow_page_build": 1, "shadow_teardown_page": 1}


def test_a_root_loaded_again_is_pinned_again() -> None:
    """A full flush of its TLB is a guest's load of the CR3 that it has; fork ends with one."""
    guest = moved(shadow(), [mmap(PAGE, 1), write(PAGE)])
    guest.start_tracking()
    guest.clean()
    run(guest, [FORK_1, read(PAGE), TO_1])
    assert spent(guest, [TO_0, read(PAGE)]) == {"base": LOAD + 1 + 30}


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
