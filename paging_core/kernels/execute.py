"""Running the guest: the hot loop over its operations."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Event
from paging_core.kernels.access import panic
from paging_core.kernels.arrays import frame_at, memory, tlb_at
from paging_core.kernels.exits import emulate_store, translate_miss
from paging_core.kernels.guest_kernel import (
    end_process,
    fork,
    handle_guest_fault,
    map_range,
    switch_process,
    unmap_range,
)
from paging_core.kernels.look_ahead import look_ahead
from paging_core.kernels.pointers import RecordArray
from paging_core.kernels.state import PANICKED, WORD_MASK, Core
from paging_core.kernels.tlb import tlb_tag
from paging_core.kernels.translation import EMULATE
from paging_core.kernels.views import OpView
from paging_core.units import FRAME_SHIFT, PS_PER_NS, WORDS_PER_FRAME
from paging_core.workloads.ops import (
    EXIT,
    FORK,
    IDLE,
    MMAP,
    MMAP_HUGE,
    MUNMAP,
    READ,
    REWRITE,
    SWITCH,
    WRITE,
)

_ACCESS = int(Event.ACCESS)
_MOST_FAULTS = 4
"""Of one access, one after the other: a page that is there and was shared takes one."""


@kernel
def _store_to_table(m: Core, gfn: int, op: OpView) -> None:
    """User code stores to a page table that it has mapped: emulated, word by word."""
    if op.kind == WRITE:
        word = (op.address >> 3) & WORD_MASK
        for i in range(max(1, min(int(op.words), WORDS_PER_FRAME - word))):
            emulate_store(m, gfn, word + i, op.value + i)


@kernel
def _user_access(m: Core, op: OpView, write: int) -> int:
    """Translate for user code; its kernel handles what its tables forbid. -1: it gave up."""
    va = op.address
    gfn = translate_miss(m, va, write, 0)
    faults = 0
    while gfn < 0 and m.vcpu.out_of_memory == 0:
        faults += 1
        if faults > _MOST_FAULTS:
            panic(m)
            break
        handle_guest_fault(m, va, write)
        gfn = translate_miss(m, va, write, 0)
    if m.vcpu.out_of_memory == PANICKED:
        return -1
    if gfn >= EMULATE:
        gfn -= EMULATE
        _store_to_table(m, gfn, op)
    return gfn


@kernel
def _system_operation(m: Core, kind: int, address: int, value: int) -> None:
    if kind in (MMAP, MMAP_HUGE):
        map_range(m, address, value, kind == MMAP_HUGE)
    elif kind == MUNMAP:
        unmap_range(m, address, value)
    elif kind == SWITCH:
        switch_process(m, address)
    elif kind == FORK:
        fork(m, address)
    elif kind == EXIT:
        end_process(m, address)


@kernel
def execute(m: Core, ops: RecordArray[OpView], first: int, until_ps: int) -> int:
    """Run operations until they end, guest time reaches `until_ps`, or memory runs out.

    Args:
        ops: records of OP_DTYPE.
        first: the first one to run.
        until_ps: guest time (run + spent) at which to stop, picoseconds.

    Returns:
        The index of the first operation that was not run.
    """
    access_ps = m.time.cost_ps[_ACCESS]
    mask = m.tlb.mask
    tag_bits = tlb_tag(m, 0)
    run_ps = 0
    accesses = 0
    at = first
    start_ps = m.time.run_ps
    while at < ops.shape[0] and start_ps + run_ps + m.time.spent_ps < until_ps:
        op = ops[at]
        at += 1
        run_ps += op.gap_ps
        kind = op.kind
        if kind > REWRITE:
            if kind == IDLE:
                run_ps += op.value * PS_PER_NS
            else:
                m.time.run_ps = start_ps + run_ps
                _system_operation(m, kind, op.address, op.value)
                tag_bits = tlb_tag(m, 0)
            if m.vcpu.out_of_memory:
                break
            continue
        va = op.address
        write = 1 if kind != READ else 0
        run_ps += access_ps
        accesses += 1
        slot = tlb_at(m, (va >> FRAME_SHIFT) & mask)
        if slot.tag == tag_bits | (va >> FRAME_SHIFT) and slot.writable >= write:
            gfn = int(slot.gfn)
        else:
            m.time.run_ps = start_ps + run_ps
            look_ahead(m, ops, at)
            gfn = _user_access(m, op, write)
            tag_bits = tlb_tag(m, 0)
            if gfn < 0:
                break
        if write:
            frame_at(m, gfn).written = 1
            if kind == WRITE:
                word = (va >> 3) & WORD_MASK
                value = op.value
                memory(m)[gfn * WORDS_PER_FRAME + word] = value
                for i in range(1, min(int(op.words), WORDS_PER_FRAME - word)):
                    memory(m)[gfn * WORDS_PER_FRAME + (word + i)] = value + i
    m.time.run_ps = start_ps + run_ps
    m.time.base_ps += run_ps
    m.time.base_events[_ACCESS] += accesses
    return at
