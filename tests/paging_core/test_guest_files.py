"""Pages of a file in the guest: what programs see, what entries say, what is refused on arrival."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paging_core.config import CleanPolicy, GuestConfig, Paging, TrackerConfig
from paging_core.costs import CostTable
from paging_core.errors import GuestCrashed, InvalidInput
from paging_core.kernels.guest_mappings import MAPPING_WORDS
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from paging_core.workloads import ops
from tests.paging_core.reference.files import FileReference
from tests.paging_core.reference.guest import page_bytes
from tests.paging_core.reference.harness import (
    ZERO_FRAME,
    Silent,
    boot,
    dirty_now,
    move,
    operations,
    registers,
    roots,
    run,
    walker,
)
from tests.paging_core.reference.programs import (
    NEAR_PAGES,
    Act,
    Op,
    Program,
    mmap,
    munmap,
    programs,
    read,
    trackers,
    write,
)
from tests.paging_core.test_costs_hand_worked import PRICES, spent

PAGE, OTHER, BUFFER = 0x400, 0x600, 0x900
PRESENT, WRITABLE, DIRTY = 1, 2, 64
FORK_1, TO_0, TO_1 = Op(ops.FORK, 1), Op(ops.SWITCH, 0), Op(ops.SWITCH, 1)


def shared(page: int, count: int, first: int = 0) -> Op:
    return Op(ops.MMAP_SHARED, page << 12, first << 32 | count)


def private(page: int, count: int, first: int = 0) -> Op:
    return Op(ops.MMAP_PRIVATE, page << 12, first << 32 | count)


def file_write(page: int, value: int = 1, word: int = 0, words: int = 1) -> Op:
    return Op(ops.FILE_WRITE, (page << 12) + word * 8, value, words)


def file_read(page: int, to: int, words: int = 1) -> Op:
    return Op(ops.FILE_READ, page << 12, to << 12, words)


def sync(first: int = 0, count: int = 64) -> Op:
    return Op(ops.FILE_SYNC, first, count)


@st.composite
def file_programs(draw: st.DrawFn) -> Program:
    """Programs of anonymous memory, with operations on a file between them."""
    number, page = st.integers(0, 2**16 - 1), st.sampled_from(NEAR_PAGES)
    steps: Program = []
    for step in draw(programs(max_steps=50)):
        what, at, n = draw(st.tuples(st.integers(0, 9), page, number))
        on_file, word = n % 40, n % 300
        match what:
            case 0 | 1:
                steps.append((shared, private)[what](at, 1 + n % 24, on_file))
            case 2:
                steps.append(file_write(on_file, n, word, 1 + n % 9))
            case 3:
                steps.append(Op(ops.FILE_REWRITE, on_file << 12, 0, 2))
            case 4:
                steps.append(Op(ops.FILE_READ, (on_file << 12) + word * 8, at << 12, 1 + n % 9))
            case 5:
                steps.append(sync(on_file, 1 + n % 30))
        steps.append(step)
    return steps


def index_of(guest: ModelGuest) -> dict[int, tuple[int, bool]]:
    """Frame and tag of each cached page, read from guest memory."""
    root, words = registers(guest).get("file_index", 0), guest.memory.words
    found = {}
    for top in range(512) if root else ():
        entry = int(words[root, top])
        for slot in range(512) if entry else ():
            leaf = int(words[entry >> 12, slot])
            if leaf & PRESENT:
                found[top * 512 + slot] = (leaf >> 12, bool(leaf & DIRTY))
    return found


def differences(guest: ModelGuest, reference: FileReference) -> list[str]:
    """Where a guest's entries, pages or page cache are not those of the reference."""
    frames = {id(page): frame for page, frame in _cached_pages(guest, reference)}
    if {number: tag for number, (_, tag) in index_of(guest).items()} != {
        number: number in reference.dirty for number in reference.cache
    }:
        return ["the page cache holds others, or others are tagged dirty"]
    wrong = []
    for process, space in reference.spaces.items():
        leaves = {va >> 12: leaf for va, leaf in walker(guest, process).leaves().items()}
        if leaves.keys() != space.entries.keys():
            wrong.append(f"process {process} maps {sorted(leaves.keys() ^ space.entries.keys())}")
            continue
        for vpn, leaf in leaves.items():
            entry = space.entries[vpn]
            place = ZERO_FRAME if entry.page.zero else frames.setdefault(id(entry.page), leaf.gfn)
            same = guest.memory.words[leaf.gfn].tobytes() == page_bytes(entry.page.words)
            found = (leaf.gfn, leaf.writable, leaf.accessed, leaf.dirty, same)
            expected = (place, entry.writable, entry.young, entry.dirty, True)
            if found != expected:
                wrong.append(f"process {process} page {vpn:#x}: {found}, not {expected}")
    return wrong if len(set(frames.values())) == len(frames) else [*wrong, "a frame is two pages"]


def _cached_pages(guest: ModelGuest, reference: FileReference) -> list[tuple[object, int]]:
    index = index_of(guest)
    return [(page, index[n][0]) for n, page in reference.cache.items() if n in index]


def both(program: Program, tracker: TrackerConfig) -> tuple[ModelGuest, FileReference]:
    """A guest that is logged from the start and the reference, after a program."""
    guest, reference = boot(tracker, 1024), FileReference()
    run(guest, [Act.START, *program])
    for op in operations(program):
        reference.step(op)
    return guest, reference


@given(file_programs(), trackers())
def test_entries_and_pages_are_what_linux_would_have(
    program: Program, tracker: TrackerConfig
) -> None:
    guest, reference = both(program, tracker)
    assert set(roots(guest)) == set(reference.spaces)
    assert differences(guest, reference) == []


@given(file_programs(), file_programs(), trackers())
def test_a_guest_with_files_moves_and_goes_on(
    before: Program, after: Program, tracker: TrackerConfig
) -> None:
    """Only what the parts share is run after the move: both begin with process 0 alone."""
    guest, reference = both(before, tracker)
    moved = move(guest)
    assert moved.architectural_state() == guest.architectural_state()
    alone = [op for op in operations(after) if op.kind not in (ops.FORK, ops.EXIT, ops.SWITCH)]
    run(moved, list(alone))
    for op in alone:
        reference.step(op)
    assert differences(moved, reference) == []


@given(file_programs(), trackers())
def test_cr3_is_loaded_and_pages_invalidated_when_linux_would(
    program: Program, tracker: TrackerConfig
) -> None:
    guest, reference = boot(tracker, 1024), FileReference()
    guest.start_tracking()
    steps: Program = [step for step in program if step not in (Act.START, Act.STOP)]
    run(guest, steps)
    for op in operations(program):
        reference.step(op)
    expected = {"cr3_load": reference.cr3_loads, "invlpg": reference.invlpgs}
    if tracker.paging is Paging.HAP:
        expected = dict.fromkeys(expected, 0)
    events = guest.counters().events_by.get("base", {})
    assert {name: events.get(name, 0) for name in expected} == expected


@given(file_programs(), trackers(), st.data())
def test_no_write_to_a_page_of_the_file_is_lost(
    program: Program, tracker: TrackerConfig, data: st.DataObject
) -> None:
    """Every frame that changed since a clean is dirty, by whatever way it was written."""
    guest = boot(tracker, 1024)
    steps = list(operations(program))
    cut = data.draw(st.integers(0, len(steps)))
    run(guest, [Act.START, *steps[:cut], Act.CLEAN])
    before = guest.memory.words.copy()
    run(guest, list(steps[cut:]))
    changed = set((guest.memory.words != before).any(axis=1).nonzero()[0].tolist())
    assert changed <= dirty_now(guest)


def leaf_bits(guest: ModelGuest, page: int) -> tuple[bool, bool, bool]:
    leaf = walker(guest).leaves()[page << 12]
    return leaf.writable, leaf.accessed, leaf.dirty


def test_a_write_back_makes_the_next_write_fault_in_the_guest_again() -> None:
    guest = boot(TrackerConfig(Paging.HAP))
    run(guest, [shared(PAGE, 4), read(PAGE)])
    assert leaf_bits(guest, PAGE) == (False, True, False)
    run(guest, [write(PAGE)])
    assert leaf_bits(guest, PAGE) == (True, True, True)
    run(guest, [sync()])
    assert leaf_bits(guest, PAGE) == (False, True, False)
    before = guest.counters().events["guest_fault"]
    run(guest, [read(PAGE), write(PAGE), write(PAGE)])
    assert guest.counters().events["guest_fault"] == before + 1


def test_a_read_fault_maps_what_is_cached_around_it() -> None:
    """fault_around_bytes: the 16 aligned pages, here those of slots 16 to 31 that are cached."""
    guest = boot(TrackerConfig(Paging.HAP))
    run(guest, [*[file_write(n) for n in range(10, 40) if n != 20], shared(PAGE, 40)])
    run(guest, [read(PAGE + 20)])
    mapped = sorted(va >> 12 for va in walker(guest).leaves())
    assert mapped == [PAGE + n for n in range(16, 32)]


def test_calls_write_frames_that_no_entry_of_a_user_maps() -> None:
    guest = boot(TrackerConfig(Paging.SHADOW))
    run(guest, [write(BUFFER), file_write(0), Act.START, Act.CLEAN, file_write(0, 7)])
    frame = index_of(guest)[0][0]
    assert frame in dirty_now(guest)
    assert frame not in {leaf.gfn for leaf in walker(guest).leaves().values()}
    run(guest, [file_read(0, BUFFER)])
    assert int(guest.memory.words[walker(guest).leaves()[BUFFER << 12].gfn, 0]) == 7


def test_what_a_shared_write_costs_by_hand() -> None:
    """Under HAP, on a page that is mapped read-only: the fault and the walks; no flush, no exit."""
    config = GuestConfig(512 * 4096, TrackerConfig(Paging.HAP), "silent", costs=CostTable(PRICES))
    guest = ModelGuest.boot(config, workload=Silent())
    run(guest, [shared(PAGE, 1), read(PAGE), file_write(0), sync(), read(PAGE)])
    assert spent(guest, [file_write(0)]) == {"base": 610}
    run(guest, [sync(), read(PAGE)])
    # The store misses, faults (700), and walks again once its entry may be written.
    assert spent(guest, [write(PAGE)]) == {"base": 1 + 700 + 2 * 80}
    assert spent(guest, [write(PAGE)]) == {"base": 1}


def test_a_table_of_another_process_that_became_data_unseen_is_data() -> None:
    """A blow, then a write-back stores to the child's table; it exits; its frame is cleared.

    The translation of the table is cached: no fault says that it is a table no more.
    """
    guest = boot(TrackerConfig(Paging.SHADOW, CleanPolicy.BLOW), 512)
    run(guest, [shared(PAGE, 1), FORK_1, TO_1, write(PAGE), TO_0, read(BUFFER)])
    l1 = walker(guest, 1).leaves()[PAGE << 12].table
    guest.start_tracking()
    assert guest.machine.frames["seen"][l1] != 0
    run(guest, [write(BUFFER + 1), write(BUFFER + 0x101)])  # both tables that follow are there
    run(guest, [sync(), Op(ops.EXIT, 1), mmap(BUFFER + 2, 0x80), mmap(BUFFER + 0x102, 1)])
    free = registers(guest)["free_frames"]
    run(guest, [mmap(BUFFER + 0x103, free)])
    assert l1 in {leaf.gfn for leaf in walker(guest).leaves().values()}
    assert guest.machine.frames["seen"][l1] == 0


def test_a_page_beyond_the_largest_file_is_a_crash() -> None:
    for op in (file_write(ops.FILE_PAGES), shared(PAGE, 2, ops.FILE_PAGES - 1)):
        guest = boot(TrackerConfig(Paging.HAP))
        with pytest.raises(GuestCrashed):
            run(guest, [op])


class Copy:
    """A guest with a file on the way, to be changed."""

    def __init__(self) -> None:
        guest = boot(TrackerConfig(Paging.HAP))
        program: Program = [shared(PAGE, 4), private(OTHER, 4), write(PAGE), write(OTHER, 9)]
        run(guest, [*program, read(PAGE + 1), read(OTHER + 1), write(BUFFER), FORK_1])
        move(guest)
        self.guest = guest
        self.words = guest.memory.words
        self.state = json.loads(guest.state())
        self.vcpu = self.state["vcpu"]

    def leaf(self, page: int) -> tuple[int, int]:
        found = walker(self.guest).leaves()[page << 12]
        return found.table, found.slot

    def resume(self) -> None:
        memory = GuestMemory(self.guest.n_frames)
        memory.words[:] = self.words
        ModelGuest.resume(memory, json.dumps(self.state).encode(), Silent())

    @property
    def index_leaf(self) -> int:
        return int(self.words[self.vcpu["file_index"], 0]) >> 12

    def mapping(self, i: int, word: int, value: int) -> None:
        self.words[self.vcpu["mappings"][0], i * MAPPING_WORDS + word] = value


def _set(page: int, flags: int) -> Callable[[Copy], None]:
    def meddle(copy: Copy) -> None:
        table, slot = copy.leaf(page)
        copy.words[table, slot] = int(copy.words[table, slot]) & ~0xFFF | flags

    return meddle


def _map_cached_elsewhere(copy: Copy) -> None:
    table, slot = copy.leaf(BUFFER)
    shared_table, shared_slot = copy.leaf(PAGE)
    copy.words[table, slot] = copy.words[shared_table, shared_slot]


def _another_page(copy: Copy) -> None:
    table, slot = copy.leaf(PAGE)
    copy.words[table, slot + 1] = int(copy.words[table, slot]) & ~WRITABLE


def _index(slot: int, value: Callable[[Copy], int]) -> Callable[[Copy], None]:
    def meddle(copy: Copy) -> None:
        copy.words[copy.index_leaf, slot] = value(copy)

    return meddle


def _of(name: str, value: Callable[[Copy], object]) -> Callable[[Copy], None]:
    return lambda copy: copy.vcpu.update({name: value(copy)})


ATTACKS: dict[str, tuple[Callable[[Copy], None], str]] = {
    "a clean page that may be written": (_set(PAGE + 1, 0x7), "a clean page can be written"),
    "a shared page that is copied": (_set(PAGE + 1, 0x205), "a shared page is private"),
    "the file by a private mapping": (_set(OTHER + 1, 0x7), "a private page can be written"),
    "a private page like a shared one": (_set(OTHER + 1, 0x5), "a private page is shared"),
    "a page of the file elsewhere": (_map_cached_elsewhere, "mapped elsewhere"),
    "an anonymous page like a shared one": (_set(BUFFER, 0x5), "mapped elsewhere"),
    "another page of the file": (_another_page, "another page is mapped"),
    "a page table in the cache": (
        _index(9, lambda copy: copy.leaf(PAGE)[0] << 12 | PRESENT),
        "its page tables are mapped",
    ),
    "the index in the cache": (
        _index(9, lambda copy: copy.vcpu["file_index"] << 12 | PRESENT),
        "its page tables are mapped",
    ),
    "a frame of the kernel in the cache": (_index(9, lambda _: 1 << 12 | PRESENT), "leads out of"),
    "a frame beyond the end": (_index(9, lambda _: 1 << 30 | PRESENT), "leads out of"),
    "two pages in a frame": (
        _index(9, lambda copy: int(copy.words[copy.index_leaf, 0])),
        "holds two pages",
    ),
    "flags in the index": (_index(9, lambda _: 2), "no such index"),
    "a free frame in the cache": (
        _index(9, lambda copy: (copy.guest.n_frames - 1) << 12 | PRESENT),
        "reference counts",
    ),
    "an index among the tables": (
        _of("file_index", lambda c: c.leaf(PAGE)[0]),
        "no such index",
    ),
    "no index": (_of("file_index", lambda _: 0), "another page is mapped"),
    "a list of nobody": (
        _of("mappings", lambda c: [c.vcpu["mappings"][0]] * 2 + [0] * 13 + [c.vcpu["mappings"][1]]),
        "that is none maps",
    ),
    "one list of two": (
        _of("mappings", lambda c: [c.vcpu["mappings"][0]] * 2 + [0] * 14),
        "is there twice",
    ),
    "ranges on each other": (lambda c: c.mapping(1, 0, PAGE << 12), "lie on each other|no file"),
    "a range of no page": (lambda c: c.mapping(0, 2, ops.FILE_PAGES - 1), "of no file"),
    "a range before the file": (lambda c: c.mapping(0, 2, -1), "of no file"),
    "a range without an end": (lambda c: c.mapping(0, 1, 1 << 62), "of no file"),
    "a range of another kind": (lambda c: c.mapping(0, 3, 3), "of no file"),
    "copies in a range without": (lambda c: c.mapping(1, 3, 2), "without copies"),
    "a list that is too long": (lambda c: c.mapping(64, 0, 1), "too long"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_a_hostile_source_would_send(attack: str) -> None:
    copy = Copy()
    meddle, said = ATTACKS[attack]
    meddle(copy)
    with pytest.raises(InvalidInput, match=f"no guest has such a memory: .*({said})"):
        copy.resume()


@given(st.data())
def test_whatever_stands_in_its_index_and_lists_stores_stay_in_the_guest(
    data: st.DataObject,
) -> None:
    """Words of the page cache's own frames change while it runs: it goes on, or has crashed."""
    copy = Copy()
    frames = [copy.vcpu["file_index"], copy.index_leaf, copy.vcpu["mappings"][0]]
    word = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 520).map(lambda n: n << 12 | 1)
    for _ in range(data.draw(st.integers(1, 4))):
        frame, slot = data.draw(st.sampled_from(frames)), data.draw(st.integers(0, 20))
        copy.words[frame, slot] = data.draw(word)
    try:
        for op in (write(PAGE + 2), read(OTHER + 3), write(OTHER + 1), file_write(9), sync()):
            run(copy.guest, [op])
        run(copy.guest, [munmap(PAGE, 2), Op(ops.FORK, 2), Op(ops.EXIT, 1)])
    except GuestCrashed:
        pass
