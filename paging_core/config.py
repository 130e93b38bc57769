"""What a guest is made of: its memory, how it is tracked, what it runs.

Each dataclass checks itself when it is made, so a config that exists is a config
that can run. Everything raises `BadOption` with the way out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from paging_core.costs import CostTable, names_no_file, prices_schema
from paging_core.errors import BadOption
from paging_core.kinds import ADAPTIVE, Choice, Flag, GroupPages, Memory, Schema, Text, Whole
from paging_core.kvm_options import GroupOpening, SlotZap, SuperpageSplit
from paging_core.settings import Role, Section, setting
from paging_core.units import FRAME_BYTES

MIN_GUEST_FRAMES = 256
MAX_GROUP_FRAMES = 4096
MAX_TLB_ENTRIES = 2**20
MAX_PML_ENTRIES = 2**16
DEFAULT_WORKLOAD = "hotcold"
POOL_FRAMES_PER_VCPU = 256
FRAMES_PER_MIB = 256
MIN_RING_ENTRIES, MAX_RING_ENTRIES = 128, 65536
"""The most are KVM_DIRTY_RING_MAX_ENTRIES."""
RESERVED_RING_ENTRIES = 64
"""KVM_DIRTY_RING_RSVD_ENTRIES: with so few left the ring is full."""
MAX_MEMORY_SLOTS = 512
"""Of a model guest; KVM has room for 32764 (KVM_USER_MEM_SLOTS)."""
MIN_KVM_PAGES = 64
FRAMES_PER_KVM_PAGE = 50
"""KVM_MIN_ALLOC_MMU_PAGES and KVM_PERMILLE_MMU_PAGES (20) of asm/kvm_host.h."""


class Paging(StrEnum):
    """Who translates guest physical memory."""

    SHADOW = "shadow"
    HAP = "hap"


class CleanPolicy(StrEnum):
    """How write access is revoked when the dirty bitmap is cleaned."""

    BLOW = "blow"
    """Shadow, Xen: drop every shadow from the top down."""
    WRITE_PROTECT = "write-protect"
    """KVM: keep shadows and P2M, take write access from the dirty frames alone."""
    LAZY = "lazy"
    """HAP, today: mark the root; a misconfiguration exit re-arms a table when touched."""
    EAGER = "eager"
    """HAP, 2009: rewrite every leaf at each clean."""
    CLEAR_LOG = "clear-log"
    """KVM since 2018 (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2): a sync copies the bitmap and revokes
    nothing; the log is cleared chunk by chunk, right before the frames of a chunk are sent."""


CLEAN_POLICIES = {
    Paging.SHADOW: (CleanPolicy.BLOW, CleanPolicy.WRITE_PROTECT, CleanPolicy.CLEAR_LOG),
    Paging.HAP: (
        CleanPolicy.LAZY, CleanPolicy.EAGER, CleanPolicy.WRITE_PROTECT, CleanPolicy.CLEAR_LOG,
    ),
}  # fmt: skip
"""The clean policies of each kind of paging."""


@dataclass(frozen=True)
class CleanRules:
    """What a clean does, and what the hypervisor that does it knows: one value for each policy.

    Attributes:
        drops_all: every clean takes write access from all frames: the shadows are dropped, the
            leaves of the P2M rewritten.
        by_bitmap: a clean takes write access from the dirty frames, one by one; without this and
            the above it marks the root of the P2M.
        has_reverse_map: every entry that maps a frame is found, so all their D bits count. (A P2M
            has one entry for each frame.)
        defers: a clean revokes nothing; `ModelGuest.clear_log` does, chunk by chunk.
    """

    drops_all: bool = False
    has_reverse_map: bool = True
    by_bitmap: bool = False
    defers: bool = False


CLEAN_RULES = {
    CleanPolicy.BLOW: CleanRules(drops_all=True, has_reverse_map=False),
    CleanPolicy.WRITE_PROTECT: CleanRules(by_bitmap=True),
    CleanPolicy.LAZY: CleanRules(),
    CleanPolicy.EAGER: CleanRules(drops_all=True),
    CleanPolicy.CLEAR_LOG: CleanRules(by_bitmap=True, defers=True),
}
"""All that the model knows of a clean policy; it asks for no policy by its name."""


class GuestKind(StrEnum):
    """What a guest is made of; which kinds a host has is the host's business."""

    MODEL = "model"
    """A model of paging, with real bytes in its memory (`paging_core.model_guest`)."""
    PROCESS = "process"
    """A process of the host's machine."""
    KVM = "kvm"
    """A virtual machine of the host's KVM."""


class Tracking(StrEnum):
    """How the writes of a real guest are tracked."""

    UFFD_SYNC = "uffd-sync"
    """userfaultfd: each first write waits for a handler, which opens its page group."""
    UFFD_ASYNC = "uffd-async"
    """userfaultfd: the kernel lets each first write through; PAGEMAP_SCAN gets and clears."""
    DIRTY_LOG = "dirty-log"
    """KVM's bitmap: got, cleared and protected by one call."""
    CLEAR_LOG = "clear-log"
    """KVM's bitmap, copied first, and cleared and protected in chunks."""
    DIRTY_RING = "dirty-ring"
    """KVM's ring, which the vCPU fills."""


TRACKINGS: Mapping[GuestKind, tuple[Tracking, ...]] = {
    GuestKind.MODEL: (),
    GuestKind.PROCESS: (Tracking.UFFD_SYNC, Tracking.UFFD_ASYNC),
    GuestKind.KVM: (
        Tracking.DIRTY_LOG,
        Tracking.CLEAR_LOG,
        Tracking.DIRTY_RING,
        Tracking.UFFD_SYNC,
    ),
}
"""What each kind of guest can be tracked by; the first one is its default."""


def check_kind(kind: GuestKind, had: Iterable[GuestKind]) -> None:
    """Refuse a kind of guest by its name.

    Args:
        kind: that is asked for.
        had: those that there are here.

    Raises:
        BadOption: it is none of them.
    """
    kinds = list(had)
    if kind not in kinds:
        raise BadOption(
            f"this host has no guests of kind {kind}, only {', '.join(kinds)}; choose one of those "
            "with --kind, or another host"
        )


class Hypervisor(StrEnum):
    """Whose way of paging, logging and migrating; see `HYPERVISORS`."""

    XEN = "xen"
    XEN_2009 = "xen-2009"
    KVM = "kvm"


class ReadMapping(StrEnum):
    """What a fault of a read maps, under shadow paging while writes are logged."""

    READ_ONLY = "read-only"
    """Xen: writable only if the frame is dirty already."""
    WRITABLE = "writable"
    """KVM: whatever the guest's own entry lets be written (W and D set), marked dirty at once."""


class ViolationHandling(StrEnum):
    """What follows when a violation changed a present entry of the P2M, under HAP."""

    SYNC = "sync"
    """Xen: `ept_set_entry` ends in `ept_sync_domain`: an IPI, and INVEPT at the next entry."""
    NO_SYNC = "no-sync"
    """KVM: nothing, for a right that is granted needs no flush."""
    FAST = "fast"
    """The same, and KVM gives a frame write back without its lock (fast_page_fault)."""


class ShadowMmu(StrEnum):
    """Whose shadow paging: how shadow pages live, how they are filled, how tables are watched."""

    XEN = "xen"
    KVM = "kvm"


@dataclass(frozen=True)
class Parts:
    """What belongs together in one hypervisor. Each part can be set alone; this is its default.

    Attributes:
        shadow_mmu: how shadow pages live and are filled.
        clean: the clean policy, by kind of paging.
        reads_map: what a fault of a read maps.
        violations: what follows a violation.
        split: when superpages are split.
        policy: when the guest is paused, by its name in `source_host.precopy.policies`.
        costs: table of prices by its name; empty for the default one.
    """

    shadow_mmu: ShadowMmu
    clean: Mapping[Paging, CleanPolicy]
    reads_map: ReadMapping
    violations: ViolationHandling
    split: SuperpageSplit
    policy: str
    costs: str = ""


HYPERVISORS: Mapping[Hypervisor, Parts] = {
    Hypervisor.XEN: Parts(
        shadow_mmu=ShadowMmu.XEN,
        clean={Paging.SHADOW: CleanPolicy.BLOW, Paging.HAP: CleanPolicy.LAZY},
        reads_map=ReadMapping.READ_ONLY,
        violations=ViolationHandling.SYNC,
        split=SuperpageSplit.ON_WRITE,
        policy="xen",
    ),
    Hypervisor.XEN_2009: Parts(
        shadow_mmu=ShadowMmu.XEN,
        clean={Paging.SHADOW: CleanPolicy.BLOW, Paging.HAP: CleanPolicy.EAGER},
        reads_map=ReadMapping.READ_ONLY,
        violations=ViolationHandling.SYNC,
        split=SuperpageSplit.ON_WRITE,
        policy="xen-2009",
        costs="xen-2009",
    ),
    Hypervisor.KVM: Parts(
        shadow_mmu=ShadowMmu.KVM,
        clean={Paging.SHADOW: CleanPolicy.WRITE_PROTECT, Paging.HAP: CleanPolicy.WRITE_PROTECT},
        reads_map=ReadMapping.WRITABLE,
        violations=ViolationHandling.NO_SYNC,
        split=SuperpageSplit.ON_WRITE,
        policy="qemu",
    ),
}
"""Xen today (xen/arch/x86/mm, tools/libs/guest), Xen at the end of 2009 (3.5-dev: p2m-ept.c rewrote
every leaf at a clean; tools/libxc/xc_domain_save.c), and Linux's KVM under QEMU.
Out-of-sync L1 tables are on in all three: SHOPT_OUT_OF_SYNC of Xen's SHADOW_OPTIMIZATIONS for HVM
guests (shadow/private.h, 0x1ff), then as now, and KVM's mmu_try_to_unsync_pages."""


class GroupScope(StrEnum):
    """What a page group is a run of."""

    VIRTUAL = "virtual"
    """Shadow L1 entries: neighbours in the faulting address space."""
    PHYSICAL = "physical"
    """Guest frame numbers."""


class MemoryFill(StrEnum):
    """What stands in guest memory before the workload writes to it."""

    ZERO = "zero"
    MIXED = "mixed"
    """A third zero, a third text-like, a third incompressible, by frame."""
    RANDOM = "random"


class GuestTables(StrEnum):
    """How the guest's kernel writes its page tables."""

    LINUX = "linux"
    """Entries are young and dirty from the fault on; a read of a fresh page maps the zero page."""
    CLEAN = "clean"
    """Entries are born with A and D clear, for the walker to set; any access gets a frame."""


def _own_scope(settings: Mapping[str, Any]) -> str:
    shadow = Paging(settings["paging"]) is Paging.SHADOW
    return (GroupScope.VIRTUAL if shadow else GroupScope.PHYSICAL).value


def _own_clean(settings: Mapping[str, Any]) -> str:
    parts = HYPERVISORS[Hypervisor(settings.get("hypervisor") or Hypervisor.XEN)]
    return parts.clean[Paging(settings["paging"])].value


def _trace_schema() -> Schema:
    digest = {
        "description": "XXH3 (64 bits) of its content; null when it lies on a remote source "
        "host only.",
        "anyOf": [{"$ref": "#/$defs/digest"}, {"type": "null"}],
    }
    name = {"description": "Name of the file without its directory.", "type": "string"}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["file", "xxh3_64"],
        "properties": {"file": name, "xxh3_64": digest},
    }


@dataclass(frozen=True)
class GroupPolicy:
    """Which frames one fixup fault opens.

    Attributes:
        frames: group size n, a power of two from 1 (ungrouped) to 4096.
        trigger: a group opens with its so many-th dirty frame; 1 is at its first fixup
            (2: patent application US 2024/0241742).
        adaptive: sizes are learned, region by region; `frames` is 1.
        scope: runs of shadow L1 entries or of gfns.
        d_bit_filter: at clean time drop opened frames whose D bit the hardware never set.
    """

    frames: int = setting(
        "group_pages",
        GroupPages(MAX_GROUP_FRAMES),
        "1",
        Role.REMEDY,
        Section.TRACKING,
        "Frames that one fixup fault (the first write to a clean one) opens and marks dirty; "
        "a power of two to 4096. More: fewer faults, more frames sent that nobody wrote. "
        "adaptive: sizes are learned from what became of the frames that were opened.",
        shown="Frames that one fixup fault opens; 1 is ungrouped, adaptive learns.",
        read=lambda group, _: ADAPTIVE if group.adaptive else group.frames,
        write=lambda n: {"adaptive": True} if n == ADAPTIVE else {"frames": int(n)},
        title="pages",
        words="n = {}",
    )
    scope: GroupScope = setting(
        "group_scope",
        Choice(GroupScope),
        None,
        Role.REMEDY,
        Section.TRACKING,
        "Groups are neighbours in the address space or in guest memory.",
        shown="Groups are runs of shadow L1 entries (virtual) or of gfns (physical).",
        otherwise="virtual under shadow, physical under HAP",
        field_default=GroupScope.VIRTUAL,
        title="scope",
        words="{} groups",
        plain=_own_scope,
    )
    d_bit_filter: bool = setting(
        "d_bit_filter",
        Flag(),
        "false",
        Role.REMEDY,
        Section.TRACKING,
        "Drop frames of a group at clean time that the hardware's D bit says nobody wrote.",
        shown="Opened frames whose D bit was never set are dropped at clean time.",
        title="D-bit filter",
    )
    trigger: int = setting(
        "group_trigger",
        Whole(1, MAX_GROUP_FRAMES, "K"),
        "1",
        Role.REMEDY,
        Section.TRACKING,
        "A group opens with its K-th dirty frame; 2 and more spare lonely writes.",
        shown="K of: a group opens with its K-th dirty frame.",
        title="trigger",
        words="from dirty frame {}",
    )
    adaptive: bool = False

    def __post_init__(self) -> None:
        n = self.frames
        if not 1 <= n <= MAX_GROUP_FRAMES or n & (n - 1):
            raise BadOption(
                f"a group of {n} frames is not a power of two from 1 to {MAX_GROUP_FRAMES}; "
                "try --group-pages 64"
            )
        self._check_trigger()

    def _check_trigger(self) -> None:
        if self.adaptive and (self.frames > 1 or self.trigger > 1):
            raise BadOption(
                "adaptive groups find their size and their moment themselves; "
                "drop --group-trigger, or give --group-pages a number"
            )
        if not self.adaptive and not 1 <= self.trigger <= self.frames:
            raise BadOption(
                f"--group-trigger {self.trigger} is not between 1 and the {self.frames} frames of "
                "a group; try --group-pages 64 --group-trigger 2"
            )

    @property
    def groups(self) -> bool:
        """Whether a fixup may open more than its own frame."""
        return self.adaptive or self.frames > 1


@dataclass(frozen=True, kw_only=True)
class _Ways:
    """Whose ways: what stands first among the settings of a tracker."""

    hypervisor: Hypervisor = setting(
        "hypervisor",
        Choice(Hypervisor),
        "xen",
        Role.SURROUNDINGS,
        Section.TRACKING,
        "Whose ways: gives the defaults of --clean, --reads-map and --policy, each of which can "
        "still be set alone.",
        shown="Whose ways, as far as no part of them was set alone.",
        since="0.3",
        words="{}",
    )

    @property
    def parts(self) -> Parts:
        """The hypervisor's own ways."""
        return HYPERVISORS[self.hypervisor]


@dataclass(frozen=True)
class TrackerConfig(_Ways):
    """How guest memory is translated and its writes are logged.

    Attributes:
        hypervisor: gives the defaults of what is None below, and of the migration's policy.
        clean: None takes the hypervisor's for this kind of paging.
        pml: page-modification logging; HAP only, and there is no fixup left to group.
        prefetch: Xen's read prefetch of up to 31 shadow L1 entries.
        out_of_sync: let guest L1 tables go out of sync instead of emulating each write.
        reads_map, violations, shadow_mmu: None takes the hypervisor's.
        shadow_pool_frames: size of the shadow pool; None gives Xen's default,
            256 frames per vCPU plus one per MiB of guest memory.
        tlb_entries: entries of the modelled TLB, a power of two.
        dirty_ring: entries of KVM's dirty ring, a power of two; 0 for a bitmap.
        group_opening: who opens groups; userfaultfd under KVM's shadow paging alone.
        initially_set: the log is full when it is enabled, and protects what is cleared; CLEAR_LOG.
        memory_slots: into which guest memory is cut, evenly; of KVM's BLOW.
        slot_zap: what a deleted memory slot takes with it.
        split: None takes the hypervisor's; HAP.
        clear_chunk_frames: frames whose log is cleared at a time by CLEAR_LOG, a power of two.
            QEMU takes 1 GiB (clear-bitmap-shift 18); guests here are smaller.
        pml_buffer_entries: writes that the page-modification log holds; 512 in hardware (Intel SDM
            volume 3, 30.3, "Page-Modification Logging").
    """

    paging: Paging = setting(
        "paging",
        Choice(Paging),
        "shadow",
        Role.SURROUNDINGS,
        Section.TRACKING,
        "Who translates guest physical memory: shadow page tables kept by the hypervisor, or a "
        "P2M that the hardware walks.",
        shown="Who translates guest physical memory.",
        words="{}",
    )
    clean: CleanPolicy | None = setting(
        "clean",
        Choice(CleanPolicy),
        None,
        Role.REMEDY,
        Section.TRACKING,
        "How write access is revoked after each round. Shadow: blow (Xen, drop every shadow). "
        "HAP: lazy (Xen, mark the root) or eager (Xen of 2009, every leaf). Both: write-protect "
        "(KVM, dirty frames alone) or clear-log (KVM since 2018: a chunk of memory at a time, "
        "right before its pages are sent).",
        shown="How write access is revoked when the dirty bitmap is cleaned.",
        otherwise="by hypervisor: blow or lazy, blow or eager, write-protect",
        read=lambda tracker, _: tracker.clean_policy.value,
        words="{}",
        plain=_own_clean,
    )
    pml: bool = setting(
        "pml",
        Flag(),
        "false",
        Role.REMEDY,
        Section.TRACKING,
        "HAP: the hardware notes writes in a buffer of 512 entries; an exit when it is full "
        "instead of a fault for each page.",
        shown="Page-modification logging.",
        paging=Paging.HAP,
        title="PML",
    )
    group: GroupPolicy = field(default_factory=GroupPolicy)
    prefetch: bool = setting(
        "prefetch",
        Flag(),
        "true",
        Role.SURROUNDINGS,
        Section.TRACKING,
        "Shadow: a fault builds one entry, and not up to 31 more behind it as in Xen.",
        shown="Xen's read prefetch of shadow L1 entries.",
        paging=Paging.SHADOW,
    )
    out_of_sync: bool = setting(
        "out_of_sync",
        Flag(),
        "true",
        Role.SURROUNDINGS,
        Section.TRACKING,
        "Shadow: emulate each write of the guest to its own L1 tables, instead of letting it write "
        "them and comparing them later.",
        shown="Guest L1 tables may go out of sync instead of being emulated write by write.",
        paging=Paging.SHADOW,
    )
    shadow_pool_frames: int | None = setting(
        "shadow_pool_frames",
        Whole(32, 1 << 31),
        None,
        Role.SURROUNDINGS,
        Section.TRACKING,
        "Size of the shadow pool; null under HAP.",
        paging=Paging.SHADOW,
        is_option=False,
        nullable=True,
        read=lambda _, guest: guest.shadow_pool_frames,
        title="shadow pool",
    )
    tracking: Tracking | None = setting(
        "tracking",
        Choice(Tracking),
        None,
        Role.REMEDY,
        Section.TRACKING,
        "Real guests: how their writes are tracked. uffd-sync: each first write waits for a "
        "handler, which opens its page group. uffd-async (a process): the kernel lets it through "
        "and remembers it; no groups. dirty-log, clear-log, dirty-ring: KVM's own log; no groups.",
        shown="How the writes of a real guest are tracked; null for a model.",
        otherwise="uffd-sync for a process, dirty-log for a virtual machine",
        nullable=True,
        read=lambda _, guest: guest.tracking,
        since="0.3",
        words="{}",
    )
    tlb_entries: int = setting(
        "tlb_entries",
        Whole(16, MAX_TLB_ENTRIES),
        "2048",
        Role.SURROUNDINGS,
        Section.TRACKING,
        "Entries of the modelled TLB.",
        is_option=False,
        title="TLB",
        words="TLB of {}",
    )
    clear_chunk_frames: int = setting(
        "clear_chunk_bytes",
        Memory(),
        "4MiB",
        Role.REMEDY,
        Section.TRACKING,
        "Memory whose log is cleared at a time by --clean clear-log; QEMU takes 1GiB.",
        shown="Memory whose log clear-log clears at a time; null for other policies.",
        nullable=True,
        read=lambda tracker, _: tracker.clear_chunk_bytes,
        write=lambda n_bytes: {"clear_chunk_frames": n_bytes // FRAME_BYTES},
        field_default=1024,
        words="by {}",
        plain=lambda _: None,
    )
    pml_buffer_entries: int = setting(
        "pml_buffer_entries",
        Whole(1, MAX_PML_ENTRIES),
        "512",
        Role.REMEDY,
        Section.TRACKING,
        "Writes that the buffer of --pml holds before an exit drains it. Hardware has 512: other "
        "sizes ask what another one would be worth.",
        shown="Entries of the page-modification buffer; null without it.",
        paging=Paging.HAP,
        nullable=True,
        read=lambda tracker, _: tracker.pml_buffer_entries if tracker.pml else None,
        plain=lambda _: None,
        since="0.2",
        title="PML buffer",
        words="PML buffer of {}",
    )
    reads_map: ReadMapping | None = setting(
        "reads_map",
        Choice(ReadMapping),
        None,
        Role.SURROUNDINGS,
        Section.TRACKING,
        "Shadow: what a fault of a read maps. read-only (Xen): writable only if dirty already. "
        "writable (KVM): what the guest's entry lets be written, and dirty at once.",
        shown="What a fault of a read maps while writes are logged; null under HAP.",
        paging=Paging.SHADOW,
        otherwise="by hypervisor: read-only, read-only, writable",
        nullable=True,
        read=lambda tracker, _: tracker.read_mapping,
        since="0.3",
        title="reads map",
        words="reads map {}",
    )
    violations: ViolationHandling | None = setting(
        "violations",
        Choice(ViolationHandling),
        None,
        Role.SURROUNDINGS,
        Section.TRACKING,
        "HAP: whether a violation that changes a present entry of the P2M syncs (Xen: an IPI, and "
        "every translation of the guest is dropped) or not. fast: nor does it take KVM's lock.",
        shown="Whether a violation of the P2M syncs; null under shadow paging.",
        paging=Paging.HAP,
        otherwise="by hypervisor: sync, sync, no-sync",
        nullable=True,
        read=lambda tracker, _: tracker.violation_handling,
        since="0.3",
        title="violations",
        words="violations {}",
    )
    shadow_mmu: ShadowMmu | None = setting(
        "shadow_mmu",
        Choice(ShadowMmu),
        None,
        Role.SURROUNDINGS,
        Section.TRACKING,
        "Shadow: how shadow pages live and are filled. xen: counted by references, up to 31 "
        "entries read ahead. kvm: found by guest table and rights, aligned blocks of 8 unless "
        "logging would have to mark them.",
        shown="Whose shadow paging: how shadow pages live and are filled; null under HAP.",
        paging=Paging.SHADOW,
        otherwise="by hypervisor: xen, xen, kvm",
        nullable=True,
        read=lambda tracker, _: tracker.mmu,
        since="0.3",
        title="shadow MMU",
        words="shadows of {}",
    )
    dirty_ring: int = setting(
        "dirty_ring",
        Whole(0, MAX_RING_ENTRIES),
        "0",
        Role.REMEDY,
        Section.TRACKING,
        "KVM: the vCPU notes what it dirties in a ring of N entries, a power of two from 128, and "
        "stops to have it emptied when 64 are left (with --pml 576). 0: a bitmap.",
        shown="Entries of KVM's dirty ring; 0 for a bitmap.",
        since="0.3",
        title="dirty ring",
        words="dirty ring of {}",
    )
    group_opening: GroupOpening = setting(
        "group_opening",
        Choice(GroupOpening),
        "fault",
        Role.REMEDY,
        Section.TRACKING,
        "Who opens groups. fault: the hypervisor, in the fault itself. uffd-shared, "
        "uffd-populated (KVM's shadows): user space by userfaultfd, of memory that the host keeps "
        "read-only until it faults on each page, or that is private or populated.",
        shown="Who opens groups: the hypervisor in the fault, or user space by userfaultfd.",
        since="0.3",
        title="opened by",
        words="opened by {}",
    )
    initially_set: bool = setting(
        "initially_set",
        Flag(),
        "false",
        Role.REMEDY,
        Section.TRACKING,
        "The log starts full and protects nothing; clear-log protects what it clears "
        "(KVM_DIRTY_LOG_INITIALLY_SET).",
        shown="The log is full when it starts, and only what is cleared is protected.",
        since="0.3",
        title="initially set",
    )
    memory_slots: int = setting(
        "memory_slots",
        Whole(1, MAX_MEMORY_SLOTS),
        "1",
        Role.SURROUNDINGS,
        Section.TRACKING,
        "KVM's shadows under --clean blow: memory slots of equal size; those with a dirty frame "
        "are deleted and added again.",
        shown="Memory slots of equal size.",
        paging=Paging.SHADOW,
        since="0.3",
        title="memory slots",
        words="{} memory slots",
    )
    slot_zap: SlotZap = setting(
        "slot_zap",
        Choice(SlotZap),
        "all",
        Role.REMEDY,
        Section.TRACKING,
        "KVM's shadows under --clean blow: a deleted memory slot takes the shadows of all, or "
        "(slot: KVM_X86_QUIRK_SLOT_ZAP_ALL disabled) what maps it and those of tables in it.",
        shown="Whose shadows go with a deleted memory slot.",
        paging=Paging.SHADOW,
        since="0.3",
        title="slot zap",
        words="slots zap {}",
    )
    split: SuperpageSplit | None = setting(
        "split",
        Choice(SuperpageSplit),
        None,
        Role.SURROUNDINGS,
        Section.TRACKING,
        "HAP: superpages are split by the first write to each, or all when logging starts.",
        shown="When superpages of the P2M are split; null under shadow paging.",
        paging=Paging.HAP,
        otherwise="by hypervisor: on-write each",
        nullable=True,
        read=lambda tracker, _: tracker.superpage_split,
        since="0.3",
        title="split",
        words="superpages split {}",
    )

    @property
    def clean_policy(self) -> CleanPolicy:
        """The clean policy in force, the hypervisor's default filled in."""
        return self.clean or self.parts.clean[self.paging]

    @property
    def read_mapping(self) -> ReadMapping | None:
        """What a fault of a read maps; None under HAP, where no read faults."""
        if self.paging is Paging.HAP:
            return None
        return self.reads_map or self.parts.reads_map

    @property
    def violation_handling(self) -> ViolationHandling | None:
        """What follows a violation; None under shadow paging."""
        if self.paging is Paging.SHADOW:
            return None
        return self.violations or self.parts.violations

    @property
    def mmu(self) -> ShadowMmu | None:
        """Whose shadow paging; None under HAP, which has no shadows."""
        if self.paging is Paging.HAP:
            return None
        return self.shadow_mmu or self.parts.shadow_mmu

    @property
    def superpage_split(self) -> SuperpageSplit | None:
        """When superpages are split; None under shadow paging."""
        if self.paging is Paging.SHADOW:
            return None
        return self.split or self.parts.split

    @property
    def uses_userfaultfd(self) -> bool:
        """Whether user space logs writes, and not the hypervisor."""
        return self.group_opening is not GroupOpening.FAULT

    def _userfaultfd_lacks(self) -> str:
        """What of this tracker page groups by userfaultfd cannot do; empty if they can do all."""
        if self.mmu is not ShadowMmu.KVM:
            return (
                "userfaultfd opens groups under KVM's shadows; try --hypervisor kvm --paging shadow"
            )
        if not self.clean_rules.by_bitmap:
            return "userfaultfd protects page by page; use --clean write-protect or clear-log"
        if self.group.adaptive or self.group.d_bit_filter:
            return (
                "userfaultfd shows no D bits, which adaptive groups and --d-bit-filter read; "
                "use --group-opening fault"
            )
        if self.initially_set or self.dirty_ring:
            return (
                "userfaultfd takes the place of KVM's log; drop --initially-set and --dirty-ring, "
                "or use --group-opening fault"
            )
        return ""

    @property
    def ring_limit(self) -> int:
        """Entries with which the dirty ring is full; 0 without one."""
        if not self.dirty_ring:
            return 0
        reserved = RESERVED_RING_ENTRIES + (self.pml_buffer_entries if self.pml else 0)
        return self.dirty_ring - reserved

    @property
    def clean_rules(self) -> CleanRules:
        """What that policy means."""
        return CLEAN_RULES[self.clean_policy]

    @property
    def clear_chunk_bytes(self) -> int | None:
        """Memory whose log is cleared at a time; None under policies that clear all of it."""
        return self.clear_chunk_frames * FRAME_BYTES if self.clean_rules.defers else None

    def __post_init__(self) -> None:
        self._check_clean()
        self._check_pml()
        self._check_ring()
        self._check_slots()
        self._check_opening()
        has_gfns = self.paging is Paging.HAP or self.uses_userfaultfd
        if has_gfns and self.group.scope is GroupScope.VIRTUAL:
            # Neither a P2M nor a process knows virtual addresses: the group is a run of gfns.
            physical = replace(self.group, scope=GroupScope.PHYSICAL)
            object.__setattr__(self, "group", physical)
        n = self.tlb_entries
        if not 16 <= n <= MAX_TLB_ENTRIES or n & (n - 1):
            raise BadOption(
                f"a TLB of {n} entries is not a power of two from 16 to {MAX_TLB_ENTRIES}"
            )
        if self.clear_chunk_frames < 64 or self.clear_chunk_frames & (self.clear_chunk_frames - 1):
            raise BadOption(
                f"a clear-log chunk of {self.clear_chunk_frames} frames is not a power of two of "
                "at least 64 frames; try --clear-chunk 4MiB"
            )
        if self.shadow_pool_frames is not None and self.shadow_pool_frames < 32:
            raise BadOption("a shadow pool under 32 frames cannot hold one walk; use at least 32")

    def _check_clean(self) -> None:
        allowed = CLEAN_POLICIES[self.paging]
        if self.clean is not None and self.clean not in allowed:
            raise BadOption(
                f"--clean {self.clean} does not exist under {self.paging} paging; "
                f"choose {' or '.join(allowed)}"
            )

    def _check_ring(self) -> None:
        n = self.dirty_ring
        if n == 0:
            return
        if not MIN_RING_ENTRIES <= n <= MAX_RING_ENTRIES or n & (n - 1):
            raise BadOption(
                f"a dirty ring of {n} entries is not a power of two from {MIN_RING_ENTRIES} to "
                f"{MAX_RING_ENTRIES}; try --dirty-ring 4096"
            )
        if self.ring_limit <= 0:
            raise BadOption(
                f"a dirty ring of {n} entries has no room beside the {self.pml_buffer_entries} of "
                "the PML buffer; try --dirty-ring 4096"
            )
        of_kvm = (ViolationHandling.NO_SYNC, ViolationHandling.FAST)
        if self.mmu is not ShadowMmu.KVM and self.violation_handling not in of_kvm:
            raise BadOption("--dirty-ring is KVM's; try --hypervisor kvm")
        if self.clean_policy is not CleanPolicy.WRITE_PROTECT:
            raise BadOption(
                "--dirty-ring protects the frames in it when it is emptied, and excludes the "
                "bitmap; use --clean write-protect"
            )
        if self.group.groups:
            raise BadOption(
                "--dirty-ring has an entry for each fault, so nothing is grouped; drop it or use "
                "--group-pages 1"
            )

    def _check_slots(self) -> None:
        if not 1 <= self.memory_slots <= MAX_MEMORY_SLOTS:
            raise BadOption(
                f"{self.memory_slots} memory slots are not between 1 and {MAX_MEMORY_SLOTS}"
            )
        if self.memory_slots == 1 and self.slot_zap is SlotZap.ALL:
            return
        if self.mmu is not ShadowMmu.KVM or self.clean_policy is not CleanPolicy.BLOW:
            raise BadOption(
                "--memory-slots and --slot-zap say what KVM drops when a slot is deleted; "
                "use --hypervisor kvm --clean blow"
            )

    def _check_opening(self) -> None:
        lacks = self._userfaultfd_lacks()
        if self.uses_userfaultfd and lacks:
            raise BadOption(lacks)
        if self.initially_set and not self.clean_rules.defers:
            raise BadOption("--initially-set protects what is cleared; use --clean clear-log")

    def _check_pml(self) -> None:
        if not 1 <= self.pml_buffer_entries <= MAX_PML_ENTRIES:
            raise BadOption(
                f"a PML buffer of {self.pml_buffer_entries} entries is not between 1 and "
                f"{MAX_PML_ENTRIES}; hardware has 512"
            )
        if not self.pml:
            return
        if self.paging is not Paging.HAP:
            raise BadOption("--pml logs P2M writes in hardware and needs --paging hap")
        if self.group.groups:
            raise BadOption(
                "--pml takes no fixup faults, so there is nothing to group; "
                "drop --pml or use --group-pages 1"
            )


@dataclass(frozen=True)
class GuestConfig:
    """A guest, whole: what `ModelGuest` is built from and what migrates beside its memory.

    Attributes:
        memory_bytes: a multiple of 4096, at least 1 MiB.
        kind: of guest; which settings of the tracker count is that kind's business.
        workload: ``name`` or ``name:key=value,…``; empty when `trace` is given.
        trace: path of a Parquet trace to replay instead of a workload.
        seed: of every generator; the same seed gives the same accesses anywhere.
    """

    memory_bytes: int = setting(
        "memory_bytes",
        Memory(MIN_GUEST_FRAMES * FRAME_BYTES),
        "256MiB",
        Role.SURROUNDINGS,
        Section.GUEST,
        "Guest memory, a multiple of the 4 KiB frame.",
        shown="Guest memory; a multiple of 4096.",
        required=True,
        words="{} of memory",
    )
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    workload: str = setting(
        "workload",
        Text("NAME[:k=v,…]"),
        None,
        Role.LOAD,
        Section.GUEST,
        "What the guest runs; see pageferry workloads.",
        shown="Canonical name:key=value,… with every parameter; null when a trace was replayed.",
        otherwise=DEFAULT_WORKLOAD,
        nullable=True,
        read=lambda guest, _: guest.workload or None,
        field_default=DEFAULT_WORKLOAD,
        words="{}",
    )
    trace: str = setting(
        "trace",
        Text("FILE", is_file=True, shape=_trace_schema),
        None,
        Role.LOAD,
        Section.GUEST,
        "Replay this memory trace of a real program instead of a workload. With --source, a "
        "path on that host.",
        shown="The trace that was replayed; null when a workload ran.",
        nullable=True,
        read=lambda guest, _: guest.trace or None,
        write=lambda path: {"trace": path, "workload": ""},
        field_default="",
        words="{}",
    )
    seed: int = setting(
        "seed",
        Whole(0, 2**63 - 1),
        "0",
        Role.REPETITION,
        Section.GUEST,
        "Of everything random: the same seed gives the same result anywhere.",
        shown="Of every generator.",
    )
    fill: MemoryFill = setting(
        "fill",
        Choice(MemoryFill),
        "mixed",
        Role.SURROUNDINGS,
        Section.GUEST,
        "What stands in memory before the workload writes to it; mixed is a third zeros, a third "
        "like text, a third random.",
        shown="What stood in memory before the workload wrote to it.",
    )
    guest_tables: GuestTables = setting(
        "guest_tables",
        Choice(GuestTables),
        "linux",
        Role.SURROUNDINGS,
        Section.GUEST,
        "How the guest's kernel writes its page tables. linux: entries are accessed and dirty from "
        "the fault on, and a page that is only read is the shared zero page. clean: the walker "
        "sets those bits, so that the first write after a read takes one more shadow fault.",
        shown="How the guest's kernel writes its page tables: as Linux does, or with A and D "
        "clear.",
        since="0.2",
        title="guest tables",
        words="{} guest tables",
    )
    kind: GuestKind = setting(
        "kind",
        Choice(GuestKind),
        "model",
        Role.SURROUNDINGS,
        Section.GUEST,
        "What the guest is: a model of paging, a process, or a virtual machine under KVM; a host "
        "that does not have that kind says so.",
        shown="What the guest is: a model, or a real one.",
        since="0.3",
        words="{} guest",
    )
    costs: CostTable = setting(
        "costs_ns",
        Text("NAME|FILE", is_file=True, no_file=names_no_file, shape=prices_schema),
        None,
        Role.SURROUNDINGS,
        Section.TRACKING,
        "Which prices: low, typical or high of each interval, a table by name (xen-2009), or a "
        "TOML file; the last two also with :low or :high. See pageferry costs.",
        shown="Price of every event of the cost model.",
        read=lambda guest, _: guest.costs.prices_ns(),
        write=lambda text: {"costs": CostTable.named(text)},
        field_factory=CostTable,
        part="costs",
        otherwise="typical; with --hypervisor xen-2009 that year's",
    )

    @property
    def n_frames(self) -> int:
        """Frames of guest memory."""
        return self.memory_bytes // FRAME_BYTES

    @property
    def tracking(self) -> Tracking | None:
        """How its writes are tracked; None for a model."""
        return self.tracker.tracking or next(iter(TRACKINGS[self.kind]), None)

    @property
    def shadow_pool_frames(self) -> int | None:
        """Shadow pages in the pool; None under HAP, which has none.

        Xen's toolstack gives 1 MiB of shadow pool per vCPU, plus a frame per MiB of the guest. KVM
        lets a guest have a shadow page for each 50 of its frames (kvm_arch_commit_memory_region).
        """
        if self.tracker.paging is Paging.HAP:
            return None
        if self.tracker.mmu is ShadowMmu.KVM:
            default = max(MIN_KVM_PAGES, self.n_frames // FRAMES_PER_KVM_PAGE)
        else:
            default = POOL_FRAMES_PER_VCPU + self.n_frames // FRAMES_PER_MIB
        return self.tracker.shadow_pool_frames or default

    def __post_init__(self) -> None:
        if self.memory_bytes <= 0 or self.memory_bytes % FRAME_BYTES:
            raise BadOption(
                f"{self.memory_bytes} bytes of memory is not a multiple of the "
                f"{FRAME_BYTES}-byte frame; use a size such as 256MiB"
            )
        if self.n_frames < MIN_GUEST_FRAMES:
            raise BadOption("a guest needs at least 1 MiB of memory for its own tables")
        pool = self.tracker.shadow_pool_frames or 0
        if pool > self.n_frames + MIN_GUEST_FRAMES:
            raise BadOption(
                f"a shadow pool of {pool} frames is larger than the guest's {self.n_frames}; "
                "leave it out for Xen's default"
            )
        if not 0 <= self.seed < 2**63:
            raise BadOption(f"seed {self.seed} is not between 0 and 2**63 - 1")
        self._check_tracking()

    def _check_tracking(self) -> None:
        """What only some kinds of guest, or ways of tracking, can do."""
        ways, group = TRACKINGS[self.kind], self.tracker.group
        if self.tracker.tracking is not None and self.tracker.tracking not in ways:
            way_out = (
                f"choose {' or '.join(ways)} with --tracking"
                if ways
                else "drop --tracking, a model's ways are --paging and --clean"
            )
            raise BadOption(
                f"a guest of kind {self.kind} is not tracked by {self.tracker.tracking}; {way_out}"
            )
        if self.kind is not GuestKind.MODEL and group.d_bit_filter:
            raise BadOption(
                "no D bit of real memory can be read, so none filters; drop --d-bit-filter"
            )
        if self.tracking not in {None, Tracking.UFFD_SYNC} and group.groups:
            raise BadOption(
                f"{self.tracking} lets each write through alone; take --tracking uffd-sync for "
                "groups, or drop --group-pages"
            )
