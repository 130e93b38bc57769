"""Random guest programs and trackers for hypothesis: small, legal, and rich in collisions.

A program is a list of steps. A step is one guest operation or one act of the hypervisor
(`Act`), so that cleans and peeks fall between any two operations. Addresses come from a
few pages around a table boundary and one far away, because that is where prefetch, groups
and shared tables meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from hypothesis import strategies as st

from paging_core.config import (
    CLEAN_POLICIES,
    CleanPolicy,
    GroupPolicy,
    GroupScope,
    Paging,
    ReadMapping,
    ShadowMmu,
    TrackerConfig,
)
from paging_core.workloads import ops
from paging_core.workloads.ops import OP_DTYPE, Ops

PAGE_BYTES = 4096
NEAR_PAGES = [*range(0x1F8, 0x200), *range(0x200, 0x22C)]
"""Across the boundary of two L1 tables, more than one prefetch long."""
FAR_PAGES = [0x7_0000_0000, 0x7_0000_0001]
"""Under another L4 entry: three tables for two pages."""
HUGE_PAGE = 0x4_0000
"""First page of the 2 MiB where superpages are mapped."""
HUGE_GUEST_FRAMES = 1536
"""Room for a superpage and for all of its pages copied once more."""
PAGES = NEAR_PAGES + FAR_PAGES
MAX_PROCESS = 3


class Act(StrEnum):
    """What the hypervisor does between two operations."""

    START = "start"
    CLEAN = "clean"
    PEEK = "peek"
    STOP = "stop"


@dataclass(frozen=True)
class Op:
    """One guest operation, spelled out for a readable failure."""

    kind: int
    address: int = 0
    value: int = 0
    words: int = 1
    gap_ps: int = 0

    def array(self) -> Ops:
        """As the kernels take it."""
        return as_ops([self])


Step = Op | Act
Program = list[Step]


def as_ops(operations: list[Op]) -> Ops:
    """Operations as the kernels take them."""
    rows = [(o.address, o.value, o.gap_ps, o.words, o.kind, 0) for o in operations]
    return np.array(rows, OP_DTYPE)


def read(page: int) -> Op:
    """A load from a page."""
    return Op(ops.READ, page * PAGE_BYTES)


def write(page: int, value: int = 1, word: int = 0, words: int = 1) -> Op:
    """A store to a page."""
    return Op(ops.WRITE, page * PAGE_BYTES + word * 8, value, words)


def mmap(page: int, count: int) -> Op:
    """Fresh pages, populated."""
    return Op(ops.MMAP, page * PAGE_BYTES, count)


def munmap(page: int, count: int) -> Op:
    """Pages given back."""
    return Op(ops.MUNMAP, page * PAGE_BYTES, count)


@dataclass
class _Processes:
    """Which operations on processes are legal now."""

    alive: set[int]
    current: int

    def switch(self, choice: int) -> Op:
        self.current = sorted(self.alive)[choice % len(self.alive)]
        return Op(ops.SWITCH, self.current)

    def fork_or_exit(self, choice: int) -> Op:
        slot = choice % (MAX_PROCESS + 1)
        if slot not in self.alive:
            self.alive.add(slot)
            return Op(ops.FORK, slot)
        if slot == self.current:
            return Op(ops.IDLE, value=choice)
        self.alive.remove(slot)
        return Op(ops.EXIT, slot)


_KINDS = [
    *[ops.WRITE] * 8,
    *[ops.READ] * 6,
    *[ops.REWRITE] * 2,
    *[ops.SWITCH] * 2,
    ops.MMAP,
    ops.MUNMAP,
    *[ops.FORK] * 2,
]
_ACTS = [Act.CLEAN, Act.CLEAN, Act.PEEK, Act.STOP, Act.START]


def _operation(kind: int, page: int, choice: int, processes: _Processes) -> Op:
    address = page * PAGE_BYTES
    match kind:
        case ops.WRITE | ops.REWRITE:
            word = choice % 512
            words = min(1 + choice % 5, 512 - word)
            return Op(kind, address + word * 8, choice % 7, words)
        case ops.SWITCH:
            return processes.switch(choice)
        case ops.FORK:
            return processes.fork_or_exit(choice)
        case ops.MMAP | ops.MUNMAP:
            return Op(kind, address, 1 + choice % 12)
        case _:
            return Op(kind, address)


def _is_act(weight: int) -> bool:
    return weight >= len(_KINDS)


@st.composite
def programs(
    draw: st.DrawFn, *, max_steps: int = 60, acts: bool = True, pages: list[int] | None = None
) -> Program:
    """Legal programs for a guest of 512 frames or more; never out of its memory."""
    top = len(_KINDS) + (len(_ACTS) if acts else 0) - 1
    choice = st.tuples(
        st.integers(0, top), st.sampled_from(pages or PAGES), st.integers(0, 2**16 - 1)
    )
    processes = _Processes({0}, 0)
    steps: Program = []
    for weight, page, number in draw(st.lists(choice, min_size=1, max_size=max_steps)):
        if _is_act(weight):
            steps.append(_ACTS[weight - len(_KINDS)])
        else:
            steps.append(_operation(_KINDS[weight], page, number, processes))
    return steps


def huge_programs(*, max_steps: int = 40) -> st.SearchStrategy[Program]:
    """Programs that also live in a superpage (for a guest of `HUGE_GUEST_FRAMES`)."""
    pages = [HUGE_PAGE + i for i in (0, 1, 5, 31, 32, 64, 510, 511)]
    start: Program = [Op(ops.MMAP_HUGE, HUGE_PAGE * PAGE_BYTES, 512)]
    body = programs(max_steps=max_steps, pages=pages + NEAR_PAGES[6:12])
    return body.map(lambda steps: start + steps)


GROUP_FRAMES = [1, 2, 8, 64, 512, 1024]


def groups(
    *, scope: GroupScope | None = None, d_bit_filter: bool | None = None
) -> st.SearchStrategy[GroupPolicy]:
    """Any group policy, or any with this scope or filter."""
    scopes = st.sampled_from(GroupScope) if scope is None else st.just(scope)
    filters = st.booleans() if d_bit_filter is None else st.just(d_bit_filter)
    fixed = st.builds(GroupPolicy, st.sampled_from(GROUP_FRAMES), scopes, filters)
    triggered = st.builds(
        GroupPolicy, st.sampled_from(GROUP_FRAMES[2:]), scopes, filters, st.integers(2, 5)
    )
    learned = st.builds(GroupPolicy, st.just(1), scopes, filters, adaptive=st.just(True))
    return fixed | triggered | learned


@st.composite
def trackers(
    draw: st.DrawFn,
    *,
    paging: Paging | None = None,
    clean: CleanPolicy | None = None,
    group: st.SearchStrategy[GroupPolicy] | None = None,
    mmu: ShadowMmu | None = None,
) -> TrackerConfig:
    """Any tracker that can be, or any with this paging, clean policy, these groups or shadows."""
    paging = paging or draw(st.sampled_from(Paging))
    policy = draw(groups() if group is None else group)
    return TrackerConfig(
        paging,
        clean or draw(st.sampled_from(CLEAN_POLICIES[paging])),
        pml=paging is Paging.HAP and not policy.groups and draw(st.booleans()),
        group=policy,
        prefetch=draw(st.booleans()),
        out_of_sync=draw(st.booleans()),
        reads_map=draw(st.sampled_from(ReadMapping)),
        shadow_mmu=mmu or draw(st.sampled_from(ShadowMmu)),
        shadow_pool_frames=draw(st.sampled_from([None, None, 32])),
        tlb_entries=draw(st.sampled_from([16, 64, 2048])),
    )


def long_program(seed: int, n_steps: int, pages: list[int] | None = None) -> Program:
    """One long legal program without acts, from a seed."""
    rng = np.random.default_rng(seed)
    processes = _Processes({0}, 0)
    return [
        _operation(int(rng.choice(_KINDS)), int(rng.choice(pages or PAGES)), number, processes)
        for number in rng.integers(0, 2**16, n_steps).tolist()
    ]
