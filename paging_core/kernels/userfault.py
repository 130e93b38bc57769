"""Page groups outside KVM: user space write-protects the guest's memory in the host's page tables.

`userfaultfd`, and what arch/x86/kvm makes of it. KVM's own log is off. Protecting a range and
opening it again both run `change_protection` (mm/mprotect.c), hence KVM's mmu notifier: every
shadow entry of the range goes, its shadow pages stay. A fault on a protected page sleeps in the
host until the handler has opened the page's group and marked it dirty. By then the notifier has
run, so the fault is given up (`is_page_fault_stale`) and the guest takes it a second time.

Whether neighbours cost a slow fault each, or come with KVM's block of 8, depends on the host's own
entries after the opening: of private memory, and of shared memory that the handler populates
(MADV_POPULATE_WRITE), they are writable at once; of other shared memory once the host has faulted
on each.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event, Fault
from paging_core.kernels.account import count_fault, count_fixup, pay
from paging_core.kernels.arrays import dirty, host
from paging_core.kernels.bitmap import BY_FIXUP, WITH_GROUP, mark_dirty, set_dirty
from paging_core.kernels.groups import triggers_physical
from paging_core.kernels.kvm_pages import zap_mappings
from paging_core.kernels.state import Core
from paging_core.kernels.tlb import drop_translations, flush_tlb

OFF = 0
"""Values of `m.uffd.mode`: KVM's own log, or none."""
SHARED = 1
"""Opened pages stay read-only in the host until it faults on each."""
POPULATED = 2
"""They are writable at once."""
HOST_PROTECTED = 1
"""Bits of `host`: a write calls the handler."""
HOST_WRITABLE = 2
"""The host's own entry lets KVM map the page writable."""

_USERFAULT = int(Event.UFFD_FAULT)
_OPEN = int(Event.UFFD_OPEN)
_PROTECT = int(Event.UFFD_PROTECT)
_HOST_FAULT = int(Event.HOST_FAULT)
_F_USERFAULT = int(Fault.USERFAULT)
_FIXUP = int(Cause.FIXUP)
_GROUP = int(Cause.GROUP)
_TEARDOWN = int(Cause.TEARDOWN)
_PROTECT_CAUSE = int(Cause.WRITE_PROTECT)
_TLB = int(Cause.TLB)


@kernel
def kvm_logs(m: Core) -> bool:
    """Whether KVM itself logs writes: not if user space does."""
    return m.log.enabled == 1 and m.uffd.mode == OFF


@kernel
def host_lets_write(m: Core, gfn: int) -> bool:
    """Whether KVM may map a page writable without asking the host for it."""
    return m.uffd.mode == OFF or host(m)[gfn] & HOST_WRITABLE != 0


@kernel
def _opened(m: Core) -> int:
    return HOST_WRITABLE if m.uffd.mode == POPULATED else 0


@kernel
def _open_page(m: Core, gfn: int) -> int:
    host(m)[gfn] = _opened(m)
    return zap_mappings(m, gfn, _GROUP)


@kernel
def _handle(m: Core, gfn: int) -> None:
    """The handler opens the aligned group of a page, and marks all of it dirty."""
    pay(m, _USERFAULT, _FIXUP, 1)
    count_fault(m, _F_USERFAULT, gfn)
    if set_dirty(m, gfn, BY_FIXUP):
        count_fixup(m)
    n = m.group.frames
    if n > 1 and not triggers_physical(m, gfn, n):
        n = 1
    first = gfn & ~(n - 1)
    opened, zapped = 0, 0
    for page in range(first, min(first + n, m.n_frames)):
        if host(m)[page] & HOST_PROTECTED == 0:
            continue
        zapped += _open_page(m, page)
        if page != gfn:
            set_dirty(m, page, WITH_GROUP)
            opened += 1
    pay(m, _OPEN, _GROUP, opened)
    if zapped:
        drop_translations(m)  # without an interrupt: the vCPU sleeps


@kernel
def host_write(m: Core, gfn: int) -> bool:
    """The host is asked for a page to write to; whether the handler had to open it first."""
    if m.uffd.mode == OFF or host(m)[gfn] & HOST_WRITABLE:
        return False
    slept = host(m)[gfn] & HOST_PROTECTED != 0
    if slept:
        _handle(m, gfn)
    else:
        pay(m, _HOST_FAULT, _FIXUP, 1)
    host(m)[gfn] = HOST_WRITABLE
    return slept


@kernel
def log_store(m: Core, gfn: int, how: int) -> None:
    """KVM stores to a page for the guest: its log marks it, or the host's protection tells."""
    if m.uffd.mode == OFF:
        mark_dirty(m, gfn, how)
    else:
        host_write(m, gfn)


@kernel
def protect_page(m: Core, gfn: int) -> None:
    """Protect one page (again), by UFFDIO_WRITEPROTECT or PAGEMAP_SCAN; the TLB is the caller's."""
    host(m)[gfn] = HOST_PROTECTED
    pay(m, _PROTECT, _PROTECT_CAUSE, 1)
    zap_mappings(m, gfn, _TEARDOWN)


@kernel
def protect_all_pages(m: Core) -> None:
    """Tracking starts."""
    for gfn in range(m.n_frames):
        protect_page(m, gfn)
    flush_tlb(m, _TLB)


@kernel
def protect_dirty_pages(m: Core) -> None:
    """A clean: what was opened is protected again."""
    for word in range(m.log.dirty_words):
        bits = dirty(m)[word]
        if bits == 0:
            continue
        for bit in range(64):
            if (bits >> bit) & 1:
                protect_page(m, word * 64 + bit)
    flush_tlb(m, _TLB)


@kernel
def open_all_pages(m: Core) -> None:
    """Tracking ends: nothing is protected, and once more every shadow entry goes."""
    for gfn in range(m.n_frames):
        if host(m)[gfn] & HOST_PROTECTED:
            host(m)[gfn] = _opened(m)
            pay(m, _PROTECT, _PROTECT_CAUSE, 1)
            zap_mappings(m, gfn, _TEARDOWN)
    flush_tlb(m, _TLB)
