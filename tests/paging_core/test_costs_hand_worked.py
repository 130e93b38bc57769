"""A few accesses, every event counted by hand, every nanosecond accounted for.

Prices are powers of ten apart, so that a sum shows what it is made of.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given

from paging_core.config import (
    CleanPolicy,
    GroupPolicy,
    GroupScope,
    GuestConfig,
    Paging,
    ShadowMmu,
    TrackerConfig,
    ViolationHandling,
)
from paging_core.costs import CostTable
from paging_core.events import CAUSES, Event
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from paging_core.workloads import ops
from tests.paging_core.reference.harness import Silent, boot, operations, run
from tests.paging_core.reference.programs import (
    Act,
    Op,
    Program,
    mmap,
    programs,
    read,
    trackers,
    write,
)

PAGE = 0x400
PRICES: dict[str, float] = {
    "access": 1,
    "guest_fault": 700,
    "guest_page_clear": 100,
    "guest_page_copy": 200,
    "tlb_miss_1d": 30,
    "tlb_miss_2d": 80,
    "tlb_flush": 5000,
    "exit": 1000,
    "fixup": 500,
    "shadow_l1e_build": 900,
    "shadow_prefetch": 10,
    "shadow_page_build": 2000,
    "shadow_teardown_page": 1500,
    "shadow_teardown_entry": 11,
    "emulated_write": 2200,
    "write_protect_frame": 33,
    "out_of_sync": 300,
    "resync": 550,
    "mark_dirty": 12,
    "group_open": 7,
    "d_bit_scan": 9,
    "bitmap_copy": 600,
    "p2m_violation": 450,
    "p2m_sync": 260,
    "p2m_misconfig": 350,
    "p2m_rearm_entry": 2,
    "p2m_split": 3000,
    "pml_full": 470,
    "pml_entry": 5,
    "page_digest": 410,
    "cr3_load": 820,
    "invlpg": 240,
    "guest_file_call": 610,
    "uffd_fault": 9000,
    "uffd_open": 13,
    "uffd_protect": 14,
    "host_fault": 810,
    "slot_lookup": 3,
    "p2m_fast_fault": 120,
}


def guest_with(tracker: TrackerConfig, pages: int = 4, *, twin: bool = False) -> ModelGuest:
    """A guest that came from elsewhere and has written its pages here once, untracked.

    Its tables are accessed and dirty, its shadows hold these pages and nothing else.
    """
    program: Program = [mmap(PAGE, pages), *[write(PAGE + i) for i in range(pages)]]
    elsewhere = ModelGuest.boot(
        GuestConfig(512 * 4096, tracker, "silent", costs=CostTable(PRICES)), workload=Silent()
    )
    run(elsewhere, program)
    memory = GuestMemory(512)
    memory.words[:] = elsewhere.memory.words
    guest = ModelGuest.resume(memory, elsewhere.state(), Silent())
    run(guest, [write(PAGE + i) for i in range(pages)])
    if twin:
        guest.keep_twin()
    guest.start_tracking()
    return guest


def spent(guest: ModelGuest, program: Program) -> dict[str, int]:
    """Tracking time by cause that a program costs, plus its base time; zeros left out."""
    before = guest.counters()
    run(guest, program)
    after = guest.counters()
    found = {c: after.tracking_ns[c] - before.tracking_ns[c] for c in CAUSES}
    assert after.base_ns is not None
    assert before.base_ns is not None
    found["base"] = after.base_ns - before.base_ns
    return {cause: ns for cause, ns in found.items() if ns}


def shadow(
    clean: CleanPolicy = CleanPolicy.BLOW,
    group: GroupPolicy | None = None,
    *,
    prefetch: bool = False,
) -> TrackerConfig:
    return TrackerConfig(Paging.SHADOW, clean, group=group or GroupPolicy(), prefetch=prefetch)


def test_prices_name_every_event() -> None:
    assert set(PRICES) == {event.name.lower() for event in Event}


def test_starting_with_a_blow_drops_the_path_to_what_was_used() -> None:
    """Three pages (L3, L2, L1) and their entries: one in L4, L3 and L2 each, two in L1.

    The blow unpins the root, and as the mode changes the vCPU lets go of it: it goes, is built
    again and loaded (sh_enable_log_dirty, sh_update_paging_modes).
    """
    guest = guest_with(shadow(), pages=2)
    assert guest.counters().tracking_ns == {
        **dict.fromkeys(CAUSES, 0),
        "teardown": 4 * 1500 + 5 * 11,
        "rebuild": 2000 + 820,
        "tlb": 5000,
    }


def test_kvm_reloads_no_root_to_log() -> None:
    """kvm_mmu_slot_apply_flags write-protects the slot, four pages here, and flushes."""
    guest = guest_with(replace(shadow(CleanPolicy.WRITE_PROTECT), shadow_mmu=ShadowMmu.KVM))
    found = guest.counters().tracking_ns
    assert found == {**dict.fromkeys(CAUSES, 0), "write_protect": 4 * 33, "tlb": 5000}


def test_a_read_after_a_blow_rebuilds_a_path_and_its_write_is_a_fixup() -> None:
    guest = guest_with(shadow(), pages=1)
    rebuild = 3 * 2000 + 1000 + 900  # three shadow pages; exit and entry
    assert spent(guest, [read(PAGE)]) == {"base": 1, "tlb": 30, "rebuild": rebuild}
    fixup = 1000 + 500 + 12  # exit, fixup, mark
    assert spent(guest, [write(PAGE)]) == {"base": 1, "tlb": 30, "fixup": fixup}
    assert spent(guest, [write(PAGE), read(PAGE)]) == {"base": 2}
    faults = guest.counters().faults
    assert (faults["read_build"], faults["write_protect"], faults["total"]) == (1, 1, 2)


def test_a_write_first_is_one_fault_that_builds_and_marks() -> None:
    guest = guest_with(shadow(), pages=2)
    rebuild = 3 * 2000 + 1000 + 900
    assert spent(guest, [write(PAGE)]) == {"base": 1, "tlb": 30, "rebuild": rebuild, "fixup": 12}
    entry = 1000 + 900
    assert spent(guest, [write(PAGE + 1)]) == {"base": 1, "tlb": 30, "rebuild": entry, "fixup": 12}
    faults = guest.counters().faults
    assert (faults["write_build"], faults["fixup"], faults["total"]) == (2, 2, 2)


def test_a_clean_that_blows_costs_what_stood_there() -> None:
    guest = guest_with(shadow(), pages=2)
    run(guest, [write(PAGE), read(PAGE + 1)])
    cleaned = guest.clean()
    assert cleaned.cost_ns == 600 + 3 * 1500 + 5 * 11 + 5000
    assert (cleaned.dirty_count, cleaned.fault_count) == (1, 2)


def test_a_clean_that_write_protects_costs_by_dirty_frame_and_keeps_the_shadows() -> None:
    guest = guest_with(shadow(CleanPolicy.WRITE_PROTECT))
    assert guest.counters().tracking_ns["write_protect"] == 4 * 33
    fixup = 1000 + 500 + 12
    assert spent(guest, [write(PAGE)]) == {"base": 1, "tlb": 30, "fixup": fixup}
    assert guest.clean().cost_ns == 600 + 33 + 5000
    assert spent(guest, [read(PAGE)]) == {"base": 1, "tlb": 30}
    assert spent(guest, [write(PAGE)]) == {"base": 1, "tlb": 30, "fixup": fixup}


def test_prefetch_builds_neighbours_at_its_own_price() -> None:
    guest = guest_with(shadow(prefetch=True))
    rebuild = 3 * 2000 + 1000 + 900 + 3 * 10
    assert spent(guest, [read(PAGE)]) == {"base": 1, "tlb": 30, "rebuild": rebuild}
    assert spent(guest, [read(PAGE + i) for i in (1, 2, 3)]) == {"base": 3, "tlb": 3 * 30}


@pytest.mark.parametrize("scope", GroupScope)
def test_a_group_opens_its_other_frames_at_their_own_price(scope: GroupScope) -> None:
    """The four pages stand in gfns 8 … 11 and slots 0 … 3: the same group either way."""
    guest = guest_with(shadow(CleanPolicy.WRITE_PROTECT, GroupPolicy(4, scope)))
    fixup, opened = 1000 + 500 + 12, 3 * (7 + 12)  # entry and mark
    assert spent(guest, [write(PAGE)]) == {"base": 1, "tlb": 30, "fixup": fixup, "group": opened}
    assert spent(guest, [write(PAGE + i) for i in (1, 2, 3)]) == {"base": 3, "tlb": 3 * 30}
    cleaned = guest.clean()
    assert cleaned.cost_ns == 600 + 4 * 33 + 5000
    assert (cleaned.dirty_count, cleaned.falsely_dirty_count) == (4, 0)


def test_the_d_bit_filter_reads_each_opened_entry_once() -> None:
    policy = GroupPolicy(4, GroupScope.VIRTUAL, d_bit_filter=True)
    guest = guest_with(shadow(CleanPolicy.WRITE_PROTECT, policy))
    run(guest, [write(PAGE), write(PAGE + 2)])
    cleaned = guest.clean()
    assert cleaned.cost_ns == 3 * 9 + 600 + 2 * 33 + 5000  # three opened, two written
    assert (cleaned.dirty_count, cleaned.falsely_dirty_count) == (4, 0)


def test_slowdown_is_time_with_tracking_over_time_without() -> None:
    guest = guest_with(shadow(CleanPolicy.WRITE_PROTECT), pages=1, twin=True)
    start_ns = 33 + 5000 + 820  # the root is loaded again
    run(guest, [Op(ops.WRITE, PAGE << 12, 1, gap_ps=9_999_000), write(PAGE)])
    counters = guest.counters()
    base_ns, tracking_ns = 9_999 + 2, start_ns + 30 + 1512
    assert (counters.base_ns, sum(counters.tracking_ns.values())) == (base_ns, tracking_ns)
    assert counters.untracked_ns == base_ns  # the twin's: no miss, no fault
    assert counters.slowdown == (base_ns + tracking_ns) / base_ns


def test_without_a_twin_there_is_no_slowdown_to_tell() -> None:
    counters = guest_with(shadow(), pages=1).counters()
    assert (counters.untracked_ns, counters.slowdown) == (None, None)


def test_nothing_ran_is_no_slowdown() -> None:
    guest = boot(TrackerConfig(), 256)
    guest.keep_twin()
    guest.start_tracking()
    assert guest.counters().base_ns == 0
    assert guest.counters().slowdown == 1.0


def test_the_first_use_of_a_page_is_not_charged_to_tracking() -> None:
    """A fault on a page that untracked shadows would not hold either is base time."""
    guest = guest_with(shadow(), pages=1)
    run(guest, [read(PAGE)])
    found = spent(guest, [write(PAGE + 1)])
    assert set(found) == {"base", "fixup"}  # marking it is all that logging adds


def test_a_lazy_hap_write_pays_misconfiguration_split_and_violation() -> None:
    guest = guest_with(TrackerConfig(Paging.HAP, CleanPolicy.LAZY), pages=2)
    assert guest.counters().tracking_ns["p2m"] == 2  # the one root entry
    p2m = 1000 + 350 + 3000  # exit and misconfiguration; the split
    fixup = 1000 + 450 + 260 + 12  # exit, violation, sync, mark
    assert spent(guest, [write(PAGE)]) == {"base": 1, "tlb": 80, "p2m": p2m, "fixup": fixup}
    assert spent(guest, [write(PAGE + 1)]) == {"base": 1, "tlb": 80, "fixup": fixup}
    assert guest.clean().cost_ns == 600 + 2 + 5000
    p2m = 1000 + 350 + 512 * 2
    assert spent(guest, [read(PAGE)]) == {"base": 1, "tlb": 80, "p2m": p2m}
    assert spent(guest, [write(PAGE)]) == {"base": 1, "tlb": 80, "fixup": fixup}


def test_an_eager_hap_clean_pays_for_every_leaf() -> None:
    guest = guest_with(TrackerConfig(Paging.HAP, CleanPolicy.EAGER), pages=1)
    run(guest, [write(PAGE)])
    assert guest.clean().cost_ns == 600 + 512 * 2 + 5000
    fixup = 1000 + 450 + 260 + 12
    assert spent(guest, [write(PAGE)]) == {"base": 1, "tlb": 80, "fixup": fixup}


def test_pml_pays_by_entry_when_the_log_is_read() -> None:
    guest = guest_with(TrackerConfig(Paging.HAP, CleanPolicy.EAGER, pml=True))
    run(guest, [write(PAGE)])  # splits the superpage, once and for all
    guest.clean()
    assert spent(guest, [write(PAGE + i) for i in range(4)]) == {"base": 4, "tlb": 4 * 80}
    assert guest.clean().cost_ns == 4 * 5 + 260 + 600 + 512 * 2 + 5000


def test_a_stall_passes_time_and_is_not_charged_to_tracking() -> None:
    guest = guest_with(shadow(), pages=1)
    before, time_ns = guest.counters(), guest.time_ns
    guest.stall(12_345)
    assert guest.time_ns == time_ns + 12_345
    assert guest.counters() == before


def test_a_peek_costs_a_copy_of_the_bitmap_and_no_protection() -> None:
    guest = guest_with(shadow(), pages=1)
    run(guest, [write(PAGE)])
    before = guest.counters().tracking_ns
    guest.peek()
    after = guest.counters().tracking_ns
    assert {c: after[c] - before[c] for c in CAUSES if after[c] != before[c]} == {"bitmap": 600}


@given(programs(), trackers())
def test_time_is_the_sum_of_events_times_prices(program: Program, tracker: TrackerConfig) -> None:
    """Whatever happens: base and tracking time add up to guest time, and so do the events."""
    config = GuestConfig(512 * 4096, tracker, "silent", costs=CostTable(PRICES))
    guest = ModelGuest.boot(config, workload=Silent())
    start_ns = guest.time_ns
    guest.start_tracking()
    idle_ns = sum(op.value for op in operations(program) if op.kind == ops.IDLE)
    run(guest, [step for step in program if step not in {Act.START, Act.STOP}])
    counters = guest.counters()
    by_events = sum(n * PRICES[name] for name, n in counters.events.items())
    assert by_events + idle_ns == guest.time_ns - start_ns
    assert counters.base_ns is not None
    assert counters.base_ns + sum(counters.tracking_ns.values()) == guest.time_ns - start_ns


def test_overridden_prices_travel_with_the_guest() -> None:
    guest = guest_with(shadow(), pages=1)
    assert json.loads(guest.state())["config"]["costs"]["fixup"] == 500


def test_a_violation_syncs_and_drops_every_translation_as_ept_set_entry_does() -> None:
    """The page that was cached misses again, and that miss is tracking's."""
    guest = guest_with(TrackerConfig(Paging.HAP, CleanPolicy.LAZY), pages=2)
    run(guest, [write(PAGE)])  # the misconfiguration exit, the split
    run(guest, [read(PAGE + 1)])
    assert spent(guest, [read(PAGE + 1)]) == {"base": 1}
    run(guest, [write(PAGE + 1)])
    assert spent(guest, [read(PAGE)]) == {"base": 1, "tlb": 80}


def test_kvm_syncs_at_no_violation() -> None:
    tracker = TrackerConfig(Paging.HAP, CleanPolicy.LAZY, violations=ViolationHandling.NO_SYNC)
    guest = guest_with(tracker, pages=2)
    run(guest, [write(PAGE)])
    assert spent(guest, [write(PAGE + 1)])["fixup"] == 1000 + 450 + 12
    assert spent(guest, [read(PAGE)]) == {"base": 1}
    assert guest.counters().events["p2m_sync"] == 0


def test_a_group_under_hap_syncs_once_and_marks_each_neighbour() -> None:
    guest = guest_with(TrackerConfig(Paging.HAP, CleanPolicy.LAZY, group=GroupPolicy(4)))
    run(guest, [write(PAGE)])
    guest.clean()
    run(guest, [read(PAGE)])
    fixup, opened = 1000 + 450 + 260 + 12, 3 * (7 + 12)
    assert spent(guest, [write(PAGE)]) == {"base": 1, "tlb": 80, "fixup": fixup, "group": opened}


@given(programs(), trackers())
def test_causes_the_twin_and_what_is_unattributed_are_the_whole(
    program: Program, tracker: TrackerConfig
) -> None:
    """The twin against a guest that was booted apart and never tracked; the sum in plain Python."""
    config = GuestConfig(512 * 4096, tracker, "silent", costs=CostTable(PRICES))
    program = [step for step in program if step not in {Act.START, Act.STOP}]
    tracked, alone = (ModelGuest.boot(config, workload=Silent()) for _ in range(2))
    booted_ns = alone.time_ns
    tracked.keep_twin()
    tracked.start_tracking()
    run(tracked, program)
    run(alone, [step for step in program if not isinstance(step, Act)])
    counters = tracked.counters()
    idle_ns = sum(op.value for op in operations(program) if op.kind == ops.IDLE)
    untracked = counters.events_by.get("untracked", {})
    assert counters.untracked_ns == alone.time_ns - booted_ns
    assert counters.untracked_ns == idle_ns + sum(n * PRICES[e] for e, n in untracked.items())
    by_cause = {
        cause: sum(n * PRICES[e] for e, n in counters.events_by.get(cause, {}).items())
        for cause in CAUSES
    }
    assert by_cause == counters.tracking_ns
    assert counters.base_ns is not None
    unattributed = counters.base_ns - counters.untracked_ns
    whole = counters.untracked_ns + sum(by_cause.values()) + unattributed
    assert whole == tracked.time_ns - booted_ns
