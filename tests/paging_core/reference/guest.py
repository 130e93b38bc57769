"""What a guest program must see, whatever lies under it: dictionaries of words.

Every process is a dictionary from virtual page number to the words of that page that are
not zero. There are no frames, no tables and no faults here: fork copies everything at
once, memory is zero until it is written. Copy-on-write, demand-zero paging, shadows, P2Ms
and TLBs are all ways to give a guest exactly this.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from paging_core.workloads import ops
from paging_core.workloads.ops import Ops

PAGE_BYTES = 4096
WORD = 1 << 64

Page = dict[int, int]
"""Words of one page by their index, absent ones are zero."""


@dataclass
class AddressSpace:
    """One process: its pages by virtual page number."""

    pages: dict[int, Page] = field(default_factory=dict)

    def copy(self) -> AddressSpace:
        return AddressSpace({vpn: dict(page) for vpn, page in self.pages.items()})


class ReferenceGuest:
    """Executes operations by their meaning alone.

    Attributes:
        processes: address spaces by process slot.
        current: slot of the running process.
    """

    def __init__(self) -> None:
        self.processes = {0: AddressSpace()}
        self.current = 0

    @property
    def space(self) -> AddressSpace:
        """The running process."""
        return self.processes[self.current]

    def execute(self, operations: Ops) -> None:
        """Execute operations in order."""
        for op in operations:
            self.step(int(op["kind"]), int(op["address"]), int(op["value"]), int(op["words"]))

    def step(self, kind: int, address: int, value: int, words: int) -> None:
        """Execute one operation (`paging_core.workloads.ops` says what each kind means)."""
        match kind:
            case ops.READ | ops.REWRITE:
                self._touch(address)
            case ops.WRITE:
                self._write(address, value, words)
            case ops.SWITCH:
                self.current = address
            case ops.MMAP | ops.MMAP_HUGE:
                self._map(address, value)
            case ops.MUNMAP:
                self._unmap(address, value)
            case ops.FORK:
                self.processes[address] = self.space.copy()
            case ops.EXIT:
                del self.processes[address]
            case ops.IDLE:
                pass
            case _:
                raise AssertionError(f"operation of kind {kind}")

    def content(self, process: int) -> dict[int, bytes]:
        """Every mapped page of a process by its virtual address."""
        pages = self.processes[process].pages
        return {vpn * PAGE_BYTES: page_bytes(page) for vpn, page in pages.items()}

    def _touch(self, address: int) -> Page:
        return self.space.pages.setdefault(address // PAGE_BYTES, {})

    def _write(self, address: int, value: int, words: int) -> None:
        page = self._touch(address)
        first = address % PAGE_BYTES // 8
        for i in range(words):
            page[first + i] = (value + i) % WORD

    def _map(self, address: int, count: int) -> None:
        for vpn in range(address // PAGE_BYTES, address // PAGE_BYTES + count):
            self.space.pages.setdefault(vpn, {})  # what is mapped there already stays

    def _unmap(self, address: int, count: int) -> None:
        for vpn in range(address // PAGE_BYTES, address // PAGE_BYTES + count):
            self.space.pages.pop(vpn, None)


def page_bytes(page: Page) -> bytes:
    """The 4096 bytes of a page."""
    words = [page.get(i, 0) for i in range(PAGE_BYTES // 8)]
    return b"".join(word.to_bytes(8, "little") for word in words)
