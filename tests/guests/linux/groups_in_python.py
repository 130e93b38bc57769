"""What tracking in groups must find, in plain Python: a second computation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Groups:
    """Aligned groups of n frames under a trigger, over one range of frames."""

    n_frames: int
    n: int
    trigger: int = 1
    dirty: set[int] = field(default_factory=set)
    open: set[int] = field(default_factory=set)
    fixups: int = 0
    opened: int = 0

    def write(self, frames: Iterable[int]) -> None:
        for frame in frames:
            if frame in self.open:
                continue
            self.fixups += 1
            self.dirty.add(frame)
            self.open.add(frame)
            start = frame // self.n * self.n
            group = set(range(start, min(start + self.n, self.n_frames)))
            if len(group & self.dirty) >= self.trigger:
                self.opened += len(group - self.dirty)
                self.dirty |= group
                self.open |= group

    def clean(self) -> set[int]:
        found, self.dirty = self.dirty, set()
        self.open -= found
        return found
