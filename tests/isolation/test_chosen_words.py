"""Words chosen with care: written where a guest runs, and where one arrives."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest

from paging_core.config import CleanPolicy, GroupPolicy, Hypervisor, Paging, TrackerConfig
from paging_core.errors import GuestCrashed, InvalidInput
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from paging_core.workloads import ops
from tests.isolation.attacker import COW, PRESENT, SUPERPAGE
from tests.isolation.witnesses import OtherGuests
from tests.paging_core.reference.harness import Silent, Words, boot, run
from tests.paging_core.reference.programs import (
    HUGE_GUEST_FRAMES,
    HUGE_PAGE,
    Op,
    mmap,
    munmap,
    read,
    write,
)

PAGE, PAGES = 0x400, 64
LEAF = 7
TRACKERS = {
    "shadow": TrackerConfig(),
    "out of sync": TrackerConfig(
        clean=CleanPolicy.WRITE_PROTECT, out_of_sync=True, group=GroupPolicy(64)
    ),
    "kvm": TrackerConfig(hypervisor=Hypervisor.KVM),
    "hap": TrackerConfig(Paging.HAP, CleanPolicy.CLEAR_LOG),
    "pml": TrackerConfig(Paging.HAP, pml=True),
}
pytestmark = pytest.mark.parametrize("tracker", TRACKERS.values(), ids=TRACKERS)


class Victim:
    """A guest with a few pages, a superpage and a child, and the words of its memory."""

    def __init__(self, tracker: TrackerConfig) -> None:
        self.guest = boot(tracker, HUGE_GUEST_FRAMES)
        huge = Op(ops.MMAP_HUGE, HUGE_PAGE << 12, 512)
        run(self.guest, [mmap(PAGE, PAGES), write(PAGE), huge, Op(ops.FORK, 1)])
        self.guest.start_tracking()
        self.words: Words = self.guest.memory.words

    def table(self, page: int, level: int) -> int:
        """The table of a level that translates a page."""
        table = int(self.guest.machine.core["vcpu"]["cr3"][0])
        for above in range(3, level - 1, -1):
            table = int(self.words[table, page >> 9 * above & 511]) >> 12
        return table

    def run(self, *steps: Op) -> None:
        """Run user code; the guest may crash and nothing else may."""
        with suppress(GuestCrashed):
            run(self.guest, list(steps))


def say_copy_on_write(victim: Victim, frame: int, flags: int = COW) -> None:
    """Entries that are not present say that they share frames that the guest has not."""
    table = victim.table(PAGE, 1)
    slots = np.arange(PAGES) + (PAGE & 511)
    victim.words[table, slots] = (frame + np.arange(PAGES)) << 12 | flags


@pytest.mark.parametrize("flags", [COW, COW | 5, 0x87, 7, 5, SUPERPAGE])
@pytest.mark.parametrize("frame", [HUGE_GUEST_FRAMES, HUGE_GUEST_FRAMES + 16384, 2**39, 2**40 - 64])
def test_pages_of_other_guests_are_not_to_be_had(
    tracker: TrackerConfig, frame: int, flags: int
) -> None:
    others = OtherGuests(2, 512)
    victim = Victim(tracker)
    say_copy_on_write(victim, frame, flags)
    victim.run(*(write(PAGE + i, i) for i in range(PAGES)))
    victim.run(*(read(PAGE + i) for i in range(PAGES)), Op(ops.FORK, 2), munmap(PAGE, PAGES))
    others.check()
    others.check_unseen(victim.words)


def in_a_circle(victim: Victim) -> None:
    """Every entry of the root, at every level, is the root."""
    root = victim.table(PAGE, 4)
    victim.words[root, :256] = root << 12 | LEAF


def one_table_for_all(victim: Victim) -> None:
    """Every L4, L3 and L2 entry leads to the same table below, and that is empty."""
    for level in (4, 3, 2):
        table, below = victim.table(PAGE, level), victim.table(PAGE, level - 1)
        victim.words[table, : 256 if level == 4 else 512] = below << 12 | LEAF
    victim.words[victim.table(PAGE, 1)] = 0


def all_is_one_frame(victim: Victim) -> None:
    """Every page is the same frame, and its count is full."""
    victim.words[victim.table(PAGE, 1)] = 900 << 12 | LEAF
    victim.words[1:].reshape(-1).view(np.uint16)[900] = 0xFFFF


@pytest.mark.parametrize("nonsense", [in_a_circle, one_table_for_all, all_is_one_frame])
def test_no_walk_goes_on_for_ever(
    tracker: TrackerConfig, nonsense: Callable[[Victim], None]
) -> None:
    for step in (Op(ops.FORK, 2), Op(ops.EXIT, 1), munmap(0, 1 << 20), write(PAGE), write(0)):
        victim = Victim(tracker)
        if step.kind == ops.EXIT:  # the parent ends, and its child runs
            victim.run(Op(ops.SWITCH, 1))
            victim.guest.machine.core["vcpu"]["roots"][0, 1] = victim.table(PAGE, 4)
            step = Op(ops.EXIT, 0)  # noqa: PLW2901
        nonsense(victim)
        victim.run(step)


def test_a_read_only_page(tracker: TrackerConfig) -> None:
    """Present, read-only, and not shared: its kernel has no answer, and would be asked for ever."""
    victim = Victim(tracker)
    victim.words[victim.table(PAGE, 1), PAGE & 511] &= ~np.int64(2 | COW)
    with pytest.raises(GuestCrashed, match=r"cannot be, and stopped; delete it and boot it anew"):
        run(victim.guest, [write(PAGE)])
    with pytest.raises(GuestCrashed):
        victim.guest.run_accesses(1)


@pytest.mark.parametrize("entry", [0, HUGE_GUEST_FRAMES << 12 | 3, (2**40 - 1) << 12 | 3, PRESENT])
def test_a_kernel_that_cannot_reach_its_memory(tracker: TrackerConfig, entry: int) -> None:
    victim = Victim(tracker)
    run(victim.guest, [Op(ops.SWITCH, 1), Op(ops.SWITCH, 0)])
    victim.words[victim.table(PAGE, 4), 256] = entry
    with pytest.raises(GuestCrashed):
        run(victim.guest, [Op(ops.SWITCH, 1), Op(ops.SWITCH, 0), Op(ops.FORK, 2)])


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_user_code_that_maps_its_own_tables(tracker: TrackerConfig, level: int) -> None:
    """It writes them as it likes, and what it writes is what stands there."""
    victim = Victim(tracker)
    table = victim.table(PAGE, level)
    victim.words[victim.table(PAGE, 1), PAGE + 1 & 511] = table << 12 | LEAF
    expected = 0x7ABC_0000
    victim.run(Op(ops.SWITCH, 1), Op(ops.SWITCH, 0))
    victim.run(write(PAGE + 1, expected, word=300, words=4))
    assert victim.words[table, 300:304].tolist() == [expected + i for i in range(4)]
    victim.run(write(PAGE + 1, (2**39 << 12) | LEAF, words=512), read(PAGE), write(PAGE))
    victim.run(*(write(page << 9 * level) for page in range(8)))


@pytest.mark.parametrize("flags", [COW, SUPERPAGE, 6, 1 << 62])
def test_an_entry_that_is_not_present_is_0_on_arrival(tracker: TrackerConfig, flags: int) -> None:
    victim = Victim(tracker)
    for level in (4, 3, 2, 1):
        memory = GuestMemory(HUGE_GUEST_FRAMES)
        memory.words[:] = victim.words
        ModelGuest.resume(memory, victim.guest.state(), Silent())
        memory.words[victim.table(PAGE, level), 200] = 2**39 << 12 | flags
        with pytest.raises(InvalidInput, match="entries that are not present are not 0"):
            ModelGuest.resume(memory, victim.guest.state(), Silent())
        memory.close()


def test_a_frame_is_mapped_once_in_each_process(tracker: TrackerConfig) -> None:
    """Or a fork would count it beyond what counts hold."""
    victim = Victim(tracker)
    table = victim.table(PAGE, 1)
    counts = victim.words[1:].reshape(-1).view(np.uint16)
    shared = int(victim.words[table, PAGE & 511])
    for slot in range(PAGE + 1 & 511, PAGE + 4 & 511):
        counts[int(victim.words[table, slot]) >> 12] -= 1
        victim.words[table, slot] = shared
        counts[shared >> 12] += 1
    with pytest.raises(InvalidInput, match="mapped more often than it has processes"):
        ModelGuest.resume(victim.guest.memory, victim.guest.state(), Silent())


@pytest.mark.parametrize("frames", [256, 2048, 2**31, 2**50])
def test_a_state_for_another_memory(tracker: TrackerConfig, frames: int) -> None:
    victim = Victim(tracker)
    state = json.loads(victim.guest.state())
    state["config"]["memory_bytes"] = frames * 4096
    state["vcpu"]["roots"] = [frames - 1] * 16
    with pytest.raises(InvalidInput):
        ModelGuest.resume(victim.guest.memory, json.dumps(state).encode(), Silent())
