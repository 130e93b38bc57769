"""How close together writes are: frames written per touched aligned group.

It decides what a page group is worth: of a group of n that a fixup opens, as many frames were
going to be written as this says, and the rest are falsely dirty. Computed from what the guest
really wrote (the model's record of true writes), so that it is a property of the load and not
of the tracker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

GROUPS = (4, 16, 64, 512)
"""Sizes of the aligned groups that are looked at, in frames."""
_NONE = (0,) * len(GROUPS)


@dataclass(frozen=True)
class Written:
    """What was really written between two cleans.

    Attributes:
        frames: distinct frames written.
        groups: for each size of `GROUPS`, aligned groups in which at least one of them lies.
    """

    frames: int = 0
    groups: tuple[int, ...] = _NONE

    @classmethod
    def of(cls, gfns: npt.NDArray[np.int64]) -> Written:
        """Of these frames, ascending and distinct."""
        if not len(gfns):
            return NOTHING
        touched = (1 + int(np.count_nonzero(np.diff(gfns // size))) for size in GROUPS)
        return cls(len(gfns), tuple(touched))

    def plus(self, other: Written) -> Written:
        """Both periods, each counted for itself."""
        groups = tuple(a + b for a, b in zip(self.groups, other.groups, strict=True))
        return Written(self.frames + other.frames, groups)

    def density(self) -> tuple[float, ...] | None:
        """Frames written per touched group, by size; None if nothing was written."""
        return tuple(self.frames / touched for touched in self.groups) if self.frames else None


NOTHING = Written()
"""Nothing was written, or nobody knows."""


def mean_density(rounds: Iterable[Written]) -> tuple[float, ...] | None:
    """The mean over the rounds in which anything was written; None if there is none.

    A round counts as much as every other, however long it was: groups are opened anew in each.
    """
    found = [density for density in (one.density() for one in rounds) if density is not None]
    if not found:
        return None
    return tuple(sum(values) / len(found) for values in zip(*found, strict=True))
