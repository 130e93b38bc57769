"""A guest is taken over only if its own kernel could have made it: every other bit is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paging_core.config import TrackerConfig
from paging_core.errors import InvalidInput
from paging_core.memory import GuestMemory, Words
from paging_core.model_guest import ModelGuest
from paging_core.workloads import ops
from tests.paging_core.reference.harness import Silent, boot, move, run
from tests.paging_core.reference.programs import (
    HUGE_GUEST_FRAMES,
    HUGE_PAGE,
    Op,
    Program,
    huge_programs,
    mmap,
    programs,
    trackers,
    write,
)

PRESENT, SUPERPAGE = 1, 128
ACCESSED_DIRTY = (5, 6)
PAGE = 0x400


@given(programs(), trackers())
def test_every_guest_of_ours_is_taken(program: Program, tracker: TrackerConfig) -> None:
    guest = boot(tracker)
    run(guest, program)
    assert move(guest).architectural_state() == guest.architectural_state()


@given(huge_programs(), trackers())
def test_with_superpages_too(program: Program, tracker: TrackerConfig) -> None:
    guest = boot(tracker, HUGE_GUEST_FRAMES)
    run(guest, program)
    move(guest)


class Copy:
    """A guest's memory and state on the way, to be changed."""

    def __init__(self, guest: ModelGuest) -> None:
        self.memory = GuestMemory(guest.n_frames)
        self.memory.words[:] = guest.memory.words
        self.state = json.loads(guest.state())

    @property
    def words(self) -> Words:
        return self.memory.words

    @property
    def vcpu(self) -> dict[str, int]:
        registers: dict[str, int] = self.state["vcpu"]
        return registers

    def frame(self, table: int, slot: int) -> int:
        return int(self.words[table, slot]) >> 12

    def leaf(self, page: int) -> tuple[int, int]:
        """(L1 table, slot) of a user page."""
        table = int(self.vcpu["cr3"])
        for level in (3, 2, 1):
            table = self.frame(table, page >> 9 * level & 511)
        return table, page & 511

    @property
    def counts(self) -> npt.NDArray[np.uint16]:
        """The kernel's reference counts, from frame 1 on."""
        return self.words[1:].reshape(-1).view(np.uint16)[:HUGE_GUEST_FRAMES]

    def resume(self) -> None:
        ModelGuest.resume(self.memory, json.dumps(self.state).encode(), Silent())


@pytest.fixture(scope="module")
def original() -> ModelGuest:
    """Two processes that share pages, a superpage, and pages of their own."""
    guest = boot(TrackerConfig(), HUGE_GUEST_FRAMES)
    huge = Op(ops.MMAP_HUGE, HUGE_PAGE << 12, 512)
    child = [Op(ops.FORK, 1), Op(ops.SWITCH, 1), write(PAGE), Op(ops.SWITCH, 0)]
    run(guest, [mmap(PAGE, 8), *(write(PAGE + i) for i in range(8)), *child, huge])
    return guest


@pytest.fixture
def copy(original: ModelGuest) -> Copy:
    return Copy(original)


def test_as_it_is(copy: Copy) -> None:
    copy.resume()


def tables(copy: Copy) -> Iterator[tuple[int, int]]:
    """Every table of every process, with its level; written without the code under test."""
    below = [(int(root), 4) for root in copy.state["vcpu"]["roots"] if root]
    while below:
        table, level = below.pop()
        yield table, level
        for slot in range(256 if level == 4 else 512):
            entry = int(copy.words[table, slot])
            if level > 1 and entry & PRESENT and not entry & SUPERPAGE:
                below.append((entry >> 12, level - 1))


@given(st.data())
def test_any_bit_of_any_entry(original: ModelGuest, data: st.DataObject) -> None:
    copy = Copy(original)
    table, _ = data.draw(st.sampled_from(sorted(tables(copy))))
    present = np.flatnonzero(copy.words[table] & PRESENT)
    slot = int(data.draw(st.sampled_from(present.tolist())))
    bit = data.draw(st.integers(0, 63))
    copy.words[table, slot] ^= np.int64(np.uint64(1 << bit).astype(np.int64))
    if bit in ACCESSED_DIRTY:
        copy.resume()
    else:
        with pytest.raises(InvalidInput, match="no guest has such a memory"):
            copy.resume()


@given(st.integers(0, HUGE_GUEST_FRAMES - 1), st.integers(0, 15))
def test_any_bit_of_any_reference_count(original: ModelGuest, gfn: int, bit: int) -> None:
    copy = Copy(original)
    copy.counts[gfn] ^= np.uint16(1 << bit)
    with pytest.raises(InvalidInput, match="reference counts are wrong"):
        copy.resume()


def table_mapped(copy: Copy) -> None:
    """The user could write a page table; the counts agree."""
    table, slot = copy.leaf(PAGE + 1)
    was = copy.frame(table, slot)
    copy.words[table, slot] = (table << 12) | (copy.words[table, slot] & 0xFFF)
    copy.counts[was] -= 1
    copy.counts[table] += 1


def counts_mapped(copy: Copy) -> None:
    """The user could write the reference counts."""
    table, slot = copy.leaf(PAGE + 1)
    copy.words[table, slot] = (1 << 12) | (copy.words[table, slot] & 0xFFF)


def loop(copy: Copy) -> None:
    """A table that is its own child."""
    root = copy.vcpu["cr3"]
    l3 = copy.frame(root, 0)
    copy.words[l3, 7] = (l3 << 12) | (copy.words[root, 0] & 0xFFF)


def superpage_over_the_end(copy: Copy) -> None:
    table, slot = superpage(copy)
    copy.words[table, slot] += 512 << 12


def superpage_one_frame_over_the_end(copy: Copy) -> None:
    """Mapped as far as memory goes and one frame further; the counts agree."""
    table, slot = superpage(copy)
    was, now = copy.frame(table, slot), HUGE_GUEST_FRAMES - 511
    copy.words[table, slot] += (now - was) << 12
    copy.counts[was : was + 512] -= 1
    copy.counts[now:] += 1
    copy.vcpu["free_frames"] = int((copy.counts == 0).sum())


def superpage_given_up(copy: Copy) -> None:
    table, slot = superpage(copy)
    copy.words[table, slot] = 0


def superpage(copy: Copy) -> tuple[int, int]:
    for table, level in tables(copy):
        found = np.flatnonzero(copy.words[table] & SUPERPAGE)
        if level == 2 and len(found):
            return table, int(found[0])
    raise AssertionError


def kernel_moved(copy: Copy) -> None:
    """The direct map leads elsewhere."""
    kernel = copy.vcpu["kernel_table"]
    copy.words[kernel + 1, 0] += 1 << 12


def kernel_not_mapped(copy: Copy) -> None:
    copy.words[copy.vcpu["cr3"], 256] = 0


def above_the_kernel(copy: Copy) -> None:
    copy.words[copy.vcpu["cr3"], 300] = copy.words[copy.vcpu["cr3"], 256]


def root_in_the_counts(copy: Copy) -> None:
    copy.state["vcpu"]["roots"][2] = 1


def root_twice(copy: Copy) -> None:
    copy.state["vcpu"]["roots"][2] = copy.vcpu["cr3"]


def no_process(copy: Copy) -> None:
    """A CR3 of 0, as the slots of processes have it that there are not."""
    copy.vcpu.update(process=copy.state["vcpu"]["roots"].index(0), cr3=0)


def register(name: str, change: int) -> Callable[[Copy], None]:
    def meddle(copy: Copy) -> None:
        copy.vcpu[name] += change

    return meddle


ATTACKS: dict[str, tuple[Callable[[Copy], None], str]] = {
    "a page table that the user writes": (table_mapped, "its page tables are mapped"),
    "counts that the user writes": (counts_mapped, "lead out of its memory"),
    "a loop": (loop, "is there twice"),
    "a superpage over the end": (superpage_over_the_end, "lead out of|counts are wrong"),
    "a superpage one frame over the end": (superpage_one_frame_over_the_end, "lead out of"),
    "a superpage given up": (superpage_given_up, "counts are wrong"),
    "another direct map": (kernel_moved, "direct map is another"),
    "no kernel": (kernel_not_mapped, "kernel is not mapped"),
    "something above the kernel": (above_the_kernel, "maps more than its kernel"),
    "a process in the kernel": (root_in_the_counts, "in its kernel's frames"),
    "two processes in one": (root_twice, "is there twice"),
    "another process": (register("process", 1), "runs no process"),
    "no process": (no_process, "runs no process"),
    "another CR3": (register("cr3", 1), "runs no process"),
    "free frames too many": (register("free_frames", 1), "number of free frames"),
    "kernel tables elsewhere": (register("kernel_table", 1), "kernel lies elsewhere"),
    "kernel frames for all": (register("first_frame", -1), "kernel lies elsewhere"),
    "a hint into the kernel": (
        lambda copy: copy.vcpu.update(alloc_hint=1),
        "hands out frames of its kernel",
    ),
    "no memory left": (register("out_of_memory", 1), "it has crashed"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_a_hostile_source_would_send(copy: Copy, attack: str) -> None:
    meddle, said = ATTACKS[attack]
    meddle(copy)
    with pytest.raises(InvalidInput, match=f"no guest has such a memory: .*({said})"):
        copy.resume()


def test_a_process_does_not_end_itself() -> None:
    """Or its tables would be free frames in use: what no workload asks for, a state might."""
    guest = boot(TrackerConfig())
    run(guest, [mmap(PAGE, 2), Op(ops.EXIT, 0), write(PAGE)])
    move(guest)
