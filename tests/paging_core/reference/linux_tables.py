"""The leaf entries that Linux keeps of private anonymous memory, and its flushes, in plain Python.

By mm/memory.c of Linux 6.6: do_anonymous_page, do_wp_page, copy_present_pte. A frame is an object
here; who shares one is who holds the same object. Hardware sets A and D as it walks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from paging_core.workloads import ops
from tests.paging_core.reference.programs import PAGE_BYTES, Op

FLUSH_CEILING = 33
"""tlb_single_page_flush_ceiling of arch/x86/mm/tlb.c."""
ZERO = 0
"""The frame of the shared zero page; others count from 1 in the order in which they are taken."""


@dataclass(frozen=True)
class Entry:
    """One present leaf entry."""

    frame: int
    writable: bool
    young: bool
    dirty: bool


@dataclass
class LinuxTables:
    """All processes: entries by page number.

    Attributes:
        processes: by slot.
        current: slot of the running one.
        cr3_loads: switches, and flushes of everything.
        invlpgs: pages that were flushed one by one.
    """

    processes: dict[int, dict[int, Entry]] = field(default_factory=lambda: {0: {}})
    current: int = 0
    cr3_loads: int = 0
    invlpgs: int = 0
    _frames: int = 0

    def step(self, op: Op) -> None:
        """Execute one operation."""
        page = op.address // PAGE_BYTES
        match op.kind:
            case ops.READ:
                self._read(page)
            case ops.WRITE | ops.REWRITE:
                self._write(page)
            case ops.MMAP | ops.MUNMAP:
                self._map(range(page, page + op.value), op.kind)
            case _:
                self._manage(op.kind, op.address)

    @property
    def _space(self) -> dict[int, Entry]:
        return self.processes[self.current]

    def _map(self, pages: range, kind: int) -> None:
        if kind == ops.MUNMAP:
            self._flush([page for page in pages if self._space.pop(page, None)])
            return
        for page in pages:
            if page not in self._space:
                self._space[page] = self._fresh()

    def _flush(self, unmapped: list[int]) -> None:
        """One flush for all, from the first to the last."""
        span = unmapped[-1] + 1 - unmapped[0] if unmapped else 0
        if span > FLUSH_CEILING:
            self.cr3_loads += 1
        else:
            self.invlpgs += span

    def _manage(self, kind: int, process: int) -> None:
        if kind == ops.FORK:
            self._fork(process)
            self.cr3_loads += 1
        elif kind == ops.SWITCH:
            self.cr3_loads += process != self.current
            self.current = process
        elif kind == ops.EXIT:
            del self.processes[process]

    def _fresh(self) -> Entry:
        self._frames += 1
        return Entry(self._frames, writable=True, young=True, dirty=True)

    def _read(self, page: int) -> None:
        zero = Entry(ZERO, writable=False, young=True, dirty=False)
        self._space[page] = replace(self._space.get(page, zero), young=True)

    def _write(self, page: int) -> None:
        entry = self._space.get(page)
        if entry is None or entry.frame == ZERO or self._sharers(entry) > 1:
            if entry is None or not entry.writable:
                self._space[page] = self._fresh()
                self.invlpgs += entry is not None  # it mapped another frame
        else:  # its last owner keeps the frame
            self._space[page] = replace(entry, writable=True, young=True, dirty=True)

    def _sharers(self, entry: Entry) -> int:
        spaces = self.processes.values()
        return sum(other.frame == entry.frame for space in spaces for other in space.values())

    def _fork(self, child: int) -> None:
        for page, entry in self._space.items():
            self._space[page] = replace(entry, writable=False)
        copies = {page: replace(entry, young=False) for page, entry in self._space.items()}
        self.processes[child] = copies
