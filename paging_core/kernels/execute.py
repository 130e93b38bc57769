"""Running the guest: the hot loop over its operations."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Event
from paging_core.kernels.access import panic, translate_write
from paging_core.kernels.arrays import frame_at, memory, tlb_at
from paging_core.kernels.exits import emulate_store, translate_miss
from paging_core.kernels.guest_files import (
    enter_call,
    handle_guest_fault,
    map_or_sync,
    write_file,
)
from paging_core.kernels.guest_kernel import (
    end_process,
    fork,
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
    FILE_READ,
    FILE_REWRITE,
    FILE_WRITE,
    FORK,
    IDLE,
    MMAP,
    MMAP_HUGE,
    MMAP_SHARED,
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
def _handle_faults(m: Core, va: int, write: int, found: int) -> int:
    """The kernel handles what its tables forbid, until the access is translated. -1: it gave up."""
    gfn = found
    faults = 0
    while gfn < 0 and m.vcpu.out_of_memory == 0:
        faults += 1
        if faults > _MOST_FAULTS:
            panic(m)
            break
        handle_guest_fault(m, va, write)
        gfn = translate_miss(m, va, write, 0)
    return -1 if m.vcpu.out_of_memory == PANICKED else gfn


@kernel
def _user_access(m: Core, op: OpView, write: int) -> int:
    """Translate for user code; -1: its kernel gave up."""
    va = op.address
    gfn = _handle_faults(m, va, write, translate_miss(m, va, write, 0))
    if gfn >= EMULATE:
        gfn -= EMULATE
        _store_to_table(m, gfn, op)
    return gfn


@kernel
def _read_file(m: Core, op: OpView) -> None:
    """read(): copy_to_user, through the mapping of the program."""
    source = enter_call(m, op, True)
    va = op.value
    target = _handle_faults(m, va, 1, translate_write(m, va, 1)) if source >= 0 else -1
    if target < 0:
        return
    first, to = (op.address >> 3) & WORD_MASK, (va >> 3) & WORD_MASK
    words = min(int(op.words), WORDS_PER_FRAME - max(first, to))
    for i in range(max(1, words)):
        word = memory(m)[source * WORDS_PER_FRAME + (first + i)]
        if target >= EMULATE:
            emulate_store(m, target - EMULATE, to + i, word)
        else:
            memory(m)[target * WORDS_PER_FRAME + (to + i)] = word
    frame_at(m, target & (EMULATE - 1)).written = 1


@kernel
def _file_operation(m: Core, op: OpView) -> None:
    if op.kind == FILE_READ:
        _read_file(m, op)
    elif op.kind in (FILE_WRITE, FILE_REWRITE):
        write_file(m, op)
    else:
        map_or_sync(m, op.kind, op.address, op.value)


@kernel
def _system_operation(m: Core, op: OpView) -> None:
    kind, address, value = op.kind, op.address, op.value
    if kind >= MMAP_SHARED:
        _file_operation(m, op)
    elif kind in (MMAP, MMAP_HUGE):
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
                _system_operation(m, op)
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
