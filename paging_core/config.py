"""What a guest is made of: its memory, how it is tracked, what it runs.

Each dataclass checks itself when it is made, so a config that exists is a config
that can run. Everything raises `BadOption` with the way out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from paging_core.costs import CostTable
from paging_core.errors import BadOption
from paging_core.units import FRAME_BYTES

MIN_GUEST_FRAMES = 256
MAX_GROUP_FRAMES = 4096
MAX_TLB_ENTRIES = 2**20


class Paging(StrEnum):
    """Who translates guest physical memory."""

    SHADOW = "shadow"
    HAP = "hap"


class CleanPolicy(StrEnum):
    """How write access is revoked when the dirty bitmap is cleaned."""

    BLOW = "blow"
    """Shadow, Xen: drop every shadow from the top down."""
    WRITE_PROTECT = "write-protect"
    """Shadow, KVM: keep the shadows, clear W through the reverse map for dirty frames."""
    LAZY = "lazy"
    """HAP, today: mark the root; a misconfiguration exit re-arms a table when touched."""
    EAGER = "eager"
    """HAP, 2009: rewrite every leaf at each clean."""
    CLEAR_LOG = "clear-log"
    """KVM since 2018 (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2): a sync copies the bitmap and revokes
    nothing; the log is cleared chunk by chunk, right before the frames of a chunk are sent."""


CLEAN_POLICIES = {
    Paging.SHADOW: (CleanPolicy.BLOW, CleanPolicy.WRITE_PROTECT, CleanPolicy.CLEAR_LOG),
    Paging.HAP: (CleanPolicy.LAZY, CleanPolicy.EAGER, CleanPolicy.CLEAR_LOG),
}
"""The clean policies of each kind of paging, its default first."""


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

    frames: int = 1
    scope: GroupScope = GroupScope.VIRTUAL
    d_bit_filter: bool = False
    trigger: int = 1
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


@dataclass(frozen=True)
class TrackerConfig:
    """How guest memory is translated and its writes are logged.

    Attributes:
        clean: None takes the default of the paging mode (blow, lazy).
        pml: page-modification logging; HAP only, and there is no fixup left to group.
        prefetch: Xen's read prefetch of up to 31 shadow L1 entries.
        out_of_sync: let guest L1 tables go out of sync instead of emulating each write.
        shadow_pool_frames: size of the shadow pool; None gives Xen's default,
            256 frames per vCPU plus one per MiB of guest memory.
        tlb_entries: entries of the modelled TLB, a power of two.
        clear_chunk_frames: frames whose log is cleared at a time by CLEAR_LOG, a power of two.
            QEMU takes 1 GiB (clear-bitmap-shift 18); guests here are smaller.
    """

    paging: Paging = Paging.SHADOW
    clean: CleanPolicy | None = None
    pml: bool = False
    group: GroupPolicy = field(default_factory=GroupPolicy)
    prefetch: bool = True
    out_of_sync: bool = False
    shadow_pool_frames: int | None = None
    tlb_entries: int = 2048
    clear_chunk_frames: int = 1024

    @property
    def clean_policy(self) -> CleanPolicy:
        """The clean policy in force, the paging mode's default filled in."""
        return self.clean or CLEAN_POLICIES[self.paging][0]

    def __post_init__(self) -> None:
        self._check_clean()
        self._check_pml()
        if self.paging is Paging.HAP and self.group.scope is GroupScope.VIRTUAL:
            # A P2M knows no virtual addresses: the natural group there is a run of gfns.
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

    def _check_pml(self) -> None:
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
        workload: ``name`` or ``name:key=value,…``; empty when `trace` is given.
        trace: path of a Parquet trace to replay instead of a workload.
        seed: of every generator; the same seed gives the same accesses anywhere.
    """

    memory_bytes: int
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    workload: str = "hotcold"
    trace: str = ""
    seed: int = 0
    fill: MemoryFill = MemoryFill.MIXED
    costs: CostTable = field(default_factory=CostTable)

    @property
    def n_frames(self) -> int:
        """Frames of guest memory."""
        return self.memory_bytes // FRAME_BYTES

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
