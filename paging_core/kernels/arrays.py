"""The machine's arrays as compiled code sees them: raw pointers and records.

A kernel's first argument is one record, the `core` of `paging_core.kernels.state`, which
holds counters, configuration and the addresses of all arrays. Passing the arrays
themselves made every kernel take a second to compile, a hundred seconds for the deepest,
because numba passes each array as seven values and counts references to it at each use.

The owner of the arrays (`paging_core.machine.Machine`) must outlive every call. Like all
compiled indexing here, none of this checks bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from paging_core.flow import FLOW_DTYPE
from paging_core.kernels.pointers import Ints
from paging_core.kernels.state import (
    CORE_DTYPE,
    FRAME_DTYPE,
    PAGE_DTYPE,
    TLB_DTYPE,
    Core,
)
from paging_core.kernels.views import FlowView, FrameView, PageView, TlbView


def _load_address(context: Any, builder: Any, core: Any, field: str) -> Any:
    """Code that reads an address from a field of the core record."""
    offset = context.get_constant(types.intp, CORE_DTYPE.fields[field][1])  # type: ignore[index]
    raw = builder.ptrtoint(core, context.get_value_type(types.intp))
    pointer = builder.inttoptr(
        builder.add(raw, offset), context.get_value_type(types.intp).as_pointer()
    )
    return builder.load(pointer)


def _pointer(field: str, element: types.Type) -> Callable[[Core], Ints]:
    """An intrinsic that gives a field's array as a pointer to be indexed."""
    result = types.CPointer(element)

    @intrinsic
    def get(_context: Any, core: Any) -> Any:
        def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            address = _load_address(context, builder, args[0], field)
            return builder.inttoptr(address, context.get_value_type(result))

        return result(core), build

    return cast("Callable[[Core], Ints]", get)


def _record(field: str, dtype: np.dtype[np.void]) -> Callable[[Core, int], Any]:
    """An intrinsic that gives one record of a field's array, by index."""
    result = numba.from_dtype(dtype)

    @intrinsic
    def get(_context: Any, core: Any, index: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address = _load_address(context, builder, args[0], field)
            at = context.cast(builder, args[1], signature.args[1], types.intp)
            size = context.get_constant(types.intp, dtype.itemsize)
            place = builder.add(address, builder.mul(at, size))
            return builder.inttoptr(place, context.get_value_type(result))

        return result(core, index), build

    return cast("Callable[[Core, int], Any]", get)


memory: Callable[[Core], Ints] = _pointer("memory_at", types.int64)
"""Guest memory: word `gfn * 512 + slot`."""
dirty: Callable[[Core], Ints] = _pointer("dirty_at", types.int64)
"""The log-dirty bitmap, 64 frames a word."""
entries: Callable[[Core], Ints] = _pointer("entries_at", types.int64)
"""Shadow entries: `page * 512 + slot`."""
links: Callable[[Core], Ints] = _pointer("links_at", types.int32)
"""Reverse map: next at `2 * entry_id`, previous right after it."""
regions: Callable[[Core], Ints] = _pointer("regions_at", types.int64)
"""Row of `baseline` of the FL1 shadows of each 2 MiB (user, kernel), or -1."""
buckets: Callable[[Core], Ints] = _pointer("buckets_at", types.int64)
"""Heads of the shadow hash chains."""
stack: Callable[[Core], Ints] = _pointer("stack_at", types.int64)
"""Scratch for tearing down trees of shadows."""
baseline: Callable[[Core], Ints] = _pointer("baseline_at", types.int64)
"""What shadow L1s would hold without tracking: rows of BASELINE_WORDS."""
p2m: Callable[[Core], Ints] = _pointer("p2m_at", types.uint8)
"""P2M entries as flags, all levels."""
pml: Callable[[Core], Ints] = _pointer("pml_at", types.int64)
"""The page-modification log."""
snapshots: Callable[[Core], Ints] = _pointer("snapshots_at", types.int64)
"""Out-of-sync tables as they were: `i * 512 + slot`."""
groups: Callable[[Core], Ints] = _pointer("groups_at", types.int64)
"""What adaptive groups know of each region: `region * REGION_WORDS` (adaptive.py)."""
awaiting_send: Callable[[Core], Ints] = _pointer("awaiting_send_at", types.int64)
"""Frames that a group opened and the hardware wrote, until the sender tells more; a bit each."""
ring: Callable[[Core], Ints] = _pointer("ring_at", types.int64)
"""Gfns in KVM's dirty ring, in the order in which they were marked."""
host: Callable[[Core], Ints] = _pointer("host_at", types.uint8)
"""What the host's own page tables let be written, by gfn (userfault.py)."""
frame_at: Callable[[Core, int], FrameView] = _record("frames_at", FRAME_DTYPE)
"""What the hypervisor knows of a guest frame (FRAME_DTYPE)."""
page_at: Callable[[Core, int], PageView] = _record("pages_at", PAGE_DTYPE)
"""One shadow page (PAGE_DTYPE)."""
flow_at: Callable[[Core, int], FlowView] = _record("flow_at", FLOW_DTYPE)
"""One row of the flow buffer (FLOW_DTYPE)."""
tlb_at: Callable[[Core, int], TlbView] = _record("tlb_at", TLB_DTYPE)
"""One TLB slot (TLB_DTYPE)."""
