"""The verbs of a guest whose writes are tracked: see README.md beside this file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from paging_core import log_dirty
from paging_core.config import (
    CleanPolicy,
    GroupPolicy,
    GroupScope,
    GuestConfig,
    GuestTables,
    Hypervisor,
    MemoryFill,
    Paging,
    ReadMapping,
    TrackerConfig,
)
from paging_core.costs import CostTable
from paging_core.events import Event
from paging_core.guest import DirtyWords, GuestCounters
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from paging_core.workloads import ops
from tests.paging_core.reference.harness import Silent, walker
from tests.paging_core.reference.programs import Op
from tests.scenarios.runner import Verb, counted, numbers_of, settings_of, shown

PAGE = 4096
FREE_OF_CHARGE = {event.name.lower(): 0.0 for event in Event if event is not Event.ACCESS}


def tracker_of(settings: dict[str, str]) -> TrackerConfig:
    """The tracker of ``guest`` settings; what is not named is the default of the product."""
    n = settings.get("group", "1")
    group = GroupPolicy(
        frames=1 if n == "adaptive" else int(n),
        scope=GroupScope(settings.get("scope", "virtual")),
        d_bit_filter="d_bit_filter" in settings,
        trigger=int(settings.get("trigger", "1")),
        adaptive=n == "adaptive",
    )
    clean, reads_map = settings.get("clean"), settings.get("reads_map")
    return TrackerConfig(
        hypervisor=Hypervisor(settings.get("hypervisor", "xen")),
        paging=Paging(settings.get("paging", "shadow")),
        clean=None if clean is None else CleanPolicy(clean),
        pml="pml" in settings,
        group=group,
        prefetch="prefetch" in settings,
        out_of_sync="out_of_sync" in settings,
        clear_chunk_frames=int(settings.get("clear_chunk", "1024")),
        pml_buffer_entries=int(settings.get("pml_buffer", "512")),
        reads_map=None if reads_map is None else ReadMapping(reads_map),
    )


class TrackedGuest:
    """One guest, driven operation by operation."""

    def __init__(self) -> None:
        self.prices = dict(FREE_OF_CHARGE)
        self._guest: ModelGuest | None = None
        self._before: GuestCounters | None = None

    @property
    def verbs(self) -> dict[str, Verb]:
        """Every verb by its name."""
        accesses = {
            "write": lambda words: self._access(ops.WRITE, words),
            "rewrite": lambda words: self._access(ops.REWRITE, words),
            "read": lambda words: self._access(ops.READ, words),
            "map": lambda words: self._run(ops.MMAP, int(words[0], 0) * PAGE, int(words[1])),
            "map-huge": lambda words: self._run(
                ops.MMAP_HUGE, int(words[0], 0) * PAGE, int(words[1])
            ),
            "unmap": lambda words: self._run(ops.MUNMAP, int(words[0], 0) * PAGE, int(words[1])),
            "fork": lambda words: self._run(ops.FORK, int(words[0])),
            "switch": lambda words: self._run(ops.SWITCH, int(words[0])),
            "exit": lambda words: self._run(ops.EXIT, int(words[0])),
        }
        return {
            **accesses,
            "prices": self._set_prices,
            "guest": self._boot,
            "move": self._move,
            "track": self._track,
            "untrack": self._untrack,
            "clean": self._clean,
            "clear-log": self._clear_log,
            "peek": self._peek,
            "count": self._count,
        }

    def _set_prices(self, words: list[str]) -> Iterable[str]:
        self.prices |= {name: float(ns) for name, ns in settings_of(words).items()}
        return ()

    def _boot(self, words: list[str]) -> Iterable[str]:
        settings = settings_of(words)
        config = GuestConfig(
            int(settings.get("frames", "512")) * PAGE,
            tracker_of(settings),
            workload="silent",
            fill=MemoryFill.RANDOM,
            seed=7,
            costs=CostTable(self.prices),
            guest_tables=GuestTables(settings.get("tables", "linux")),
        )
        self._guest = ModelGuest.boot(config, None, Silent())
        return ()

    def _move(self, _words: list[str]) -> Iterable[str]:
        """To another host: the same memory and state, no shadow, an empty TLB."""
        memory = GuestMemory(self.guest.n_frames)
        memory.words[:] = self.guest.memory.words
        self._guest = ModelGuest.resume(memory, self.guest.state(), Silent())
        return ()

    @property
    def guest(self) -> ModelGuest:
        """The guest; a scenario boots it first."""
        assert self._guest is not None, "a scenario begins with: guest"
        return self._guest

    def _run(self, kind: int, address: int, value: int = 0) -> Iterable[str]:
        self.guest.execute(Op(kind, address, value).array())
        return ()

    def _access(self, kind: int, words: list[str]) -> Iterable[str]:
        for page in numbers_of(words[0]):
            self._run(kind, page * PAGE, 1)
        return ()

    def _track(self, _words: list[str]) -> Iterable[str]:
        self.guest.start_tracking()
        self._before = None
        return ()

    def _untrack(self, _words: list[str]) -> Iterable[str]:
        self.guest.stop_tracking()
        return ()

    def _peek(self, _words: list[str]) -> Iterable[str]:
        return self._frames(self.guest.peek())

    def _clean(self, _words: list[str]) -> Iterator[str]:
        cleaned = self.guest.clean()
        yield from self._frames(cleaned.dirty)
        yield f"falsely dirty: {cleaned.falsely_dirty_count}"

    def _clear_log(self, words: list[str]) -> Iterable[str]:
        """Of the pages named: what QEMU does right before it sends them."""
        leaves = self._gfns()
        gfns = sorted(leaves[page] for page in numbers_of(words[0]))
        self.guest.clear_log(np.array(gfns, np.int64))
        return ()

    def _gfns(self) -> dict[int, int]:
        """Gfn of each page that the running process maps."""
        return {va // PAGE: leaf.gfn for va, leaf in walker(self.guest).leaves().items()}

    def _frames(self, dirty: DirtyWords) -> Iterator[str]:
        """What is dirty, in the words of the running process."""
        gfns = set(log_dirty.frames_of(dirty).tolist())
        pages = {page for page, gfn in self._gfns().items() if gfn in gfns}
        tables = {table.gfn for table in walker(self.guest).tables(below_va=1 << 47)}
        yield f"dirty pages: {shown(pages)}"
        others = len(gfns - {self._gfns()[page] for page in pages} - tables)
        counts = {"page tables": len(gfns & tables), "other frames": others}
        if any(counts.values()):
            yield f"dirty beside: {counted(counts)}"

    def _count(self, words: list[str]) -> Iterator[str]:
        """Faults, events or time by cause since the last count (or since tracking started)."""
        now, before = self.guest.counters(), self._before
        chosen = {"faults": (now.faults, before and before.faults, "")}
        chosen["events"] = (now.events, before and before.events, "")
        chosen["time"] = (now.tracking_ns, before and before.tracking_ns, " ns")
        for word in words:
            after, earlier, unit = chosen[word]
            since = {name: n - (earlier[name] if earlier else 0) for name, n in after.items()}
            since.pop("access", None)
            yield f"{word}: {counted(since, unit)}"
        self._before = now
