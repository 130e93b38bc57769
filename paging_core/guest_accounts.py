"""What each kind of guest counts: its kinds of fault, and what its tracking time is spent on.

A kind of guest declares here, once, what the keys of its counters mean; documents, their schema,
tables, metrics and the columns of sweeps follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from paging_core.config import GuestKind

FIXUP = "fixup"
"""The kind of fault that every guest has: of its others, those that opened a clean frame."""


@dataclass(frozen=True)
class Account:
    """One thing that is counted.

    Attributes:
        label: at the head of a row; short.
        help: what it is; one sentence.
    """

    label: str
    help: str


@dataclass(frozen=True)
class Accounts:
    """Everything that a kind of guest counts, in the order of display.

    Attributes:
        faults: kinds of fault, keys of `GuestCounters.faults`; `FIXUP` is the last of them.
        causes: of tracking time, keys of `GuestCounters.tracking_ns`.
    """

    faults: Mapping[str, Account]
    causes: Mapping[str, Account]


_USERFAULT = Account(
    "write fault, handled", "A write to a protected page that waited for the fault handler."
)

MODEL = Accounts(
    faults={
        "read_build": Account("read, entry built", "A read whose shadow entry had to be built."),
        "write_build": Account("write, entry built", "A write whose shadow entry had to be built."),
        "write_protect": Account(
            "write to a clean frame",
            "A write to a present, write-protected entry of a clean frame.",
        ),
        "emulated_write": Account(
            "emulated table write", "A write to one of the guest's own page tables."
        ),
        "p2m_violation": Account(
            "P2M violation", "HAP: a write that a read-only P2M entry refused."
        ),
        "misconfiguration": Account(
            "P2M misconfiguration", "HAP: an exit that re-arms a P2M table."
        ),
        "pml_full": Account("PML buffer full", "HAP: the page-modification buffer was full."),
        "userfault": _USERFAULT,
        FIXUP: Account(
            "of these: fixups",
            "Of the faults above: those that opened a clean frame. Not part of the total.",
        ),
    },
    causes={
        "fixup": Account(
            "fixup faults", "Exits that made a clean frame writable and marked it dirty."
        ),
        "rebuild": Account(
            "rebuilding shadows", "Shadow entries and pages built again after a clean took them."
        ),
        "teardown": Account("tearing shadows down", "Shadow pages and entries dropped by a clean."),
        "group": Account(
            "opening groups", "Opening and marking the other frames of a group; the D-bit filter."
        ),
        "write_protect": Account(
            "write-protecting frames", "Revoking write access frame by frame."
        ),
        "p2m": Account(
            "re-arming and splitting P2M", "Misconfiguration exits, re-armed entries, splits."
        ),
        "pml": Account("draining PML buffers", "Draining page-modification buffers."),
        "tlb": Account(
            "TLB flushes and misses", "Flushes, and misses on translations that a flush took."
        ),
        "bitmap": Account("copying the bitmap", "Copying the log-dirty bitmap out."),
    },
)
"""Of model guests: `paging_core.events.Fault` and `Cause`, by name."""

PROCESS = Accounts(
    faults={
        "userfault": _USERFAULT,
        "kernel_fixup": Account(
            "write fault, let through",
            "A first write that the kernel let through and remembered (uffd-async).",
        ),
        FIXUP: MODEL.faults[FIXUP],
    },
    causes={"fixup": MODEL.causes["fixup"]},
)
"""Of processes as guests, whose time is measured: what an operation took that met a fault."""

KVM = Accounts(
    faults={
        "pf_fixed": Account(
            "entry made or opened", "A fault in which KVM made an entry, or let it be written."
        ),
        "pf_fast": Account(
            "opened without a lock", "A fault that KVM resolved without its lock; EPT or NPT alone."
        ),
        "pf_spurious": Account(
            "nothing to do", "A fault that found its entry right; at most a table was linked again."
        ),
        "pf_emulate": Account(
            "emulated write", "A write to one of the guest's tables that KVM did itself."
        ),
        "pf_retried": Account(
            "run again",
            "A fault in which KVM did nothing: the guest came again after the handler had opened "
            "the page, or the fault was the guest's own.",
        ),
        "userfault": _USERFAULT,
        FIXUP: Account(
            "of these: fixups", "Frames that became dirty, by the cleans so far. Not in the total."
        ),
    },
    causes={},
)
"""Of virtual machines, as KVM counts (KVM_GET_STATS_FD); without their programs' reports."""

BY_KIND: Mapping[GuestKind, Accounts] = {
    GuestKind.MODEL: MODEL,
    GuestKind.PROCESS: PROCESS,
    GuestKind.KVM: KVM,
}
"""Of every kind of guest that this release has."""


def accounts_of(kind: GuestKind) -> Accounts:
    """What guests of a kind count; fixups alone where this release has no such guests."""
    return BY_KIND.get(kind, _UNKNOWN)


_UNKNOWN = Accounts({FIXUP: MODEL.faults[FIXUP]}, {})


def all_faults() -> dict[str, Account]:
    """The kinds of fault of all kinds of guest; `FIXUP` last."""
    found = _all(accounts.faults for accounts in BY_KIND.values())
    found[FIXUP] = found.pop(FIXUP)
    return found


def all_causes() -> dict[str, Account]:
    """The causes of all kinds of guest."""
    return _all(accounts.causes for accounts in BY_KIND.values())


def _all(each: Iterable[Mapping[str, Account]]) -> dict[str, Account]:
    """By name; kinds that share a name share its meaning, and the first one's words."""
    found: dict[str, Account] = {}
    for one in each:
        for name, account in one.items():
            found.setdefault(name, account)
    return found
