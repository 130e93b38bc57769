"""A guest with a file in plain Python: what programs see, what entries say, what is flushed.

By mm/memory.c, mm/filemap.c and mm/rmap.c of Linux 6.6, as docs/paging-model.md names them. A page
that is mapped is an object; who shares one holds the same object.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from paging_core.workloads import ops
from tests.paging_core.reference.linux_tables import FLUSH_CEILING
from tests.paging_core.reference.programs import PAGE_BYTES, Op

AROUND = 16
COUNT = (1 << 32) - 1


@dataclass(eq=False)
class Page:
    """One page of memory: its words that are not zero, and the page of the file that it is."""

    words: dict[int, int] = field(default_factory=dict)
    of_file: int | None = None
    zero: bool = False


@dataclass(frozen=True)
class Entry:
    """One present leaf entry."""

    page: Page
    writable: bool
    young: bool
    dirty: bool


@dataclass
class Range:
    """What Linux calls a VMA; pages of the address space, the last one not in it."""

    start: int
    end: int
    first: int
    shared: bool
    copied: bool = False

    def page_at(self, vpn: int) -> int:
        return self.first + vpn - self.start


@dataclass
class Space:
    """One process."""

    ranges: list[Range] = field(default_factory=list)
    entries: dict[int, Entry] = field(default_factory=dict)

    def find(self, vpn: int) -> Range | None:
        return next((r for r in self.ranges if r.start <= vpn < r.end), None)


class FileReference:
    """All processes, and the one file.

    Attributes:
        spaces: processes by slot; current: the running one.
        cache: pages of the file by number; dirty: those that were written since a write-back.
        cr3_loads, invlpgs: flushes.
    """

    def __init__(self) -> None:
        self.spaces = {0: Space()}
        self.current = 0
        self.cache: dict[int, Page] = {}
        self.dirty: set[int] = set()
        self.cr3_loads = 0
        self.invlpgs = 0
        self._zero = Page(zero=True)

    @property
    def space(self) -> Space:
        return self.spaces[self.current]

    def step(self, op: Op) -> None:
        """Execute one operation."""
        vpn = op.address // PAGE_BYTES
        match op.kind:
            case ops.READ:
                self._read(vpn)
            case ops.WRITE | ops.REWRITE:
                self._store(op.address, self._values(op))
            case ops.MMAP | ops.MUNMAP | ops.MMAP_SHARED | ops.MMAP_PRIVATE:
                self._map(op.kind, vpn, op.value & COUNT, op.value >> 32)
            case ops.FILE_READ | ops.FILE_WRITE | ops.FILE_REWRITE:
                self._call(op, vpn)
            case ops.FILE_SYNC:
                self._write_back(range(op.address, op.address + op.value))
            case _:
                self._manage(op.kind, op.address)

    def _values(self, op: Op) -> list[int] | None:
        kept = op.kind in (ops.REWRITE, ops.FILE_REWRITE)
        return None if kept else [op.value + i for i in range(op.words)]

    def _manage(self, kind: int, process: int) -> None:
        if kind == ops.FORK:
            self._fork(process)
            self.cr3_loads += 1
        elif kind == ops.SWITCH:
            self.cr3_loads += process != self.current
            self.current = process
        elif kind == ops.EXIT:
            del self.spaces[process]

    # -- mappings ------------------------------------------------------------------------------

    def _map(self, kind: int, vpn: int, pages: int, first: int) -> None:
        end, space = vpn + pages, self.space
        files = any(r.start < end and vpn < r.end for r in space.ranges)
        if kind != ops.MMAP or files:
            self._unmap(vpn, end)
        if kind == ops.MMAP:
            for page in range(vpn, end):
                space.entries.setdefault(page, self._own(Page()))
        elif kind != ops.MUNMAP:
            space.ranges.append(Range(vpn, end, first, kind == ops.MMAP_SHARED))

    def _unmap(self, start: int, end: int) -> None:
        space = self.space
        gone = [vpn for vpn in sorted(space.entries) if start <= vpn < end]
        for vpn in gone:
            del space.entries[vpn]
        span = gone[-1] + 1 - gone[0] if gone else 0
        self.cr3_loads += span > FLUSH_CEILING
        self.invlpgs += span if span <= FLUSH_CEILING else 0
        pieces = []
        for r in space.ranges:
            for first, last in ((r.start, min(r.end, start)), (max(r.start, end), r.end)):
                pieces.append(Range(first, last, r.page_at(first), r.shared, r.copied))
        space.ranges = [piece for piece in pieces if piece.start < piece.end]

    def _fork(self, child: int) -> None:
        parent = self.space
        copy = Space([replace(r) for r in parent.ranges])
        for vpn, entry in parent.entries.items():
            found = parent.find(vpn)
            if found is None or found.copied:
                parent.entries[vpn] = replace(entry, writable=False)
                copy.entries[vpn] = replace(entry, writable=False, young=False)
        self.spaces[child] = copy

    # -- faults --------------------------------------------------------------------------------

    @staticmethod
    def _own(page: Page) -> Entry:
        return Entry(page, writable=True, young=True, dirty=True)

    def _cached(self, number: int) -> Page:
        return self.cache.setdefault(number, Page(of_file=number))

    def _read(self, vpn: int) -> None:
        entries, found = self.space.entries, self.space.find(vpn)
        if vpn in entries:
            entries[vpn] = replace(entries[vpn], young=True)
        elif found is None:
            entries[vpn] = Entry(self._zero, writable=False, young=True, dirty=False)
        else:
            self._map_around(found, vpn)
            page = self._cached(found.page_at(vpn))
            entries[vpn] = Entry(page, writable=False, young=True, dirty=False)

    def _map_around(self, found: Range, vpn: int) -> None:
        table = vpn // 512 * 512
        first = max(vpn // AROUND * AROUND, found.start, table)
        for at in range(first, min(first + AROUND, found.end, table + 512)):
            page = self.cache.get(found.page_at(at))
            if page is not None and at not in self.space.entries:
                self.space.entries[at] = Entry(page, writable=False, young=True, dirty=False)

    def _store(self, address: int, values: list[int] | None) -> None:
        vpn, word = address // PAGE_BYTES, address % PAGE_BYTES // 8
        self._write(vpn)
        for i, value in enumerate(values or []):
            self.space.entries[vpn].page.words[word + i] = value % (1 << 64)

    def _write(self, vpn: int) -> None:
        entries, found = self.space.entries, self.space.find(vpn)
        entry = entries.get(vpn)
        if entry is not None and entry.writable:
            entries[vpn] = replace(entry, young=True, dirty=True)
        elif found is not None and found.shared:
            self.dirty.add(found.page_at(vpn))
            entries[vpn] = self._own(self._cached(found.page_at(vpn)))
        else:
            self._copy(found, vpn)

    def _copy(self, found: Range | None, vpn: int) -> None:
        entries = self.space.entries
        entry = entries.get(vpn)
        if found is not None:
            found.copied = True
        if entry is None:
            source = Page() if found is None else self._cached(found.page_at(vpn))
            entries[vpn] = self._own(Page(dict(source.words)))
            return
        page = entry.page
        sharers = sum(e.page is page for s in self.spaces.values() for e in s.entries.values())
        if page.zero or page.of_file is not None or sharers > 1:
            page = Page(dict(page.words))
            self.invlpgs += 1
        entries[vpn] = self._own(page)

    # -- calls ---------------------------------------------------------------------------------

    def _call(self, op: Op, number: int) -> None:
        page, word = self._cached(number), op.address % PAGE_BYTES // 8
        if op.kind == ops.FILE_READ:
            words = min(op.words, 512 - op.value % PAGE_BYTES // 8)
            self._write(op.value // PAGE_BYTES)  # a fault on the page may copy it first
            for i in range(words):
                self._store(op.value + 8 * i, [page.words.get(word + i, 0)])
            return
        self.dirty.add(number)
        for i, value in enumerate(self._values(op) or []):
            page.words[word + i] = value % (1 << 64)

    def _write_back(self, numbers: range) -> None:
        cleaned = {number for number in numbers if number in self.dirty}
        self.dirty -= cleaned
        for process, space in self.spaces.items():
            for vpn, entry in space.entries.items():
                found = space.find(vpn)
                if found is None or not found.shared or entry.page.of_file not in cleaned:
                    continue
                if entry.writable or entry.dirty:
                    space.entries[vpn] = replace(entry, writable=False, dirty=False)
                    self.invlpgs += process == self.current
