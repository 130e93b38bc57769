"""A tracker that cannot be wrong: a set of the frames that were written.

`WrittenFrames` is the truth that every tracker is measured against. `PhysicalGroups` adds
the one rule of page groups by gfn: a write to a frame that is not dirty opens the aligned
run of n frames around it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class WrittenFrames:
    """Which frames were written since the last clean."""

    written: set[int] = field(default_factory=set)

    def write(self, gfns: Iterable[int]) -> None:
        """Frames were written."""
        self.written |= set(gfns)

    def clean(self) -> set[int]:
        """Get and clear."""
        written, self.written = self.written, set()
        return written


@dataclass
class PhysicalGroups:
    """Which frames groups of `n` gfns make dirty, by the rule alone.

    Attributes:
        n: frames in a group.
        n_frames: frames of the guest.
        dirty: what is marked.
    """

    n: int
    n_frames: int
    dirty: set[int] = field(default_factory=set)

    def write(self, gfn: int, never_opened: Iterable[int] = ()) -> None:
        """A store met this frame; `never_opened` are page tables of the moment."""
        if gfn not in self.dirty:
            self.dirty |= {gfn} | (run_of(gfn, self.n, self.n_frames) - set(never_opened))

    def mark(self, gfns: Iterable[int]) -> None:
        """Frames were marked without a fixup (emulated stores, A and D bits)."""
        self.dirty |= set(gfns)

    def clean(self) -> set[int]:
        """Get and clear."""
        dirty, self.dirty = self.dirty, set()
        return dirty


def run_of(gfn: int, n: int, n_frames: int) -> set[int]:
    """The aligned run of n frames around a gfn, as far as there is memory."""
    first = gfn - gfn % n
    return set(range(first, min(first + n, n_frames)))


def runs_of(gfns: Iterable[int], n: int, n_frames: int) -> set[int]:
    """The union of the aligned runs around several gfns."""
    return {member for gfn in gfns for member in run_of(gfn, n, n_frames)}
