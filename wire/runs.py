"""Frames as runs: consecutive gfns of one kind are three numbers, however many they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from pageferry.v1 import destination_pb2
from paging_core.errors import FramesOutsideGuest, StreamError

GfnArray = npt.NDArray[np.int64]
"""Guest frame numbers, ascending."""
KindArray = npt.NDArray[np.uint8]
"""A `FrameKind` per frame or per run."""
Digests = npt.NDArray[np.uint64]
"""XXH64 of frames, one each."""


class FrameKind(IntEnum):
    """What a batch says about a frame; the numbers of the contract."""

    DATA = destination_pb2.FRAME_KIND_DATA
    """Its 4096 bytes are in the payload."""
    ZERO = destination_pb2.FRAME_KIND_ZERO
    """It is all zero; nothing is in the payload."""
    UNCHANGED = destination_pb2.FRAME_KIND_UNCHANGED
    """What was last sent still stands; its digest is in the batch."""


_KINDS = np.array(list(FrameKind), np.uint8)


@dataclass(frozen=True, eq=False)
class FrameRuns:
    """Run i covers gfns ``first[i] … first[i] + frames[i] - 1``, all of ``kind[i]``.

    Attributes:
        first: int64, ascending.
        frames: int64, each at least 1.
        kind: uint8, values of `FrameKind`.
    """

    first: GfnArray
    frames: GfnArray
    kind: KindArray

    @classmethod
    def of(cls, gfns: GfnArray, kinds: KindArray) -> FrameRuns:
        """The fewest runs that cover `gfns` (ascending) with their `kinds`."""
        starts = np.empty(len(gfns), bool)
        starts[:1] = True
        np.not_equal(gfns[1:], gfns[:-1] + 1, out=starts[1:])
        starts[1:] |= kinds[1:] != kinds[:-1]
        at = np.flatnonzero(starts)
        return cls(gfns[at], np.diff(at, append=len(gfns)), kinds[at])

    @property
    def n_frames(self) -> int:
        """Frames in all runs."""
        return int(self.frames.sum())

    def gfns(self) -> GfnArray:
        """Every gfn, ascending."""
        ends = np.cumsum(self.frames)
        shift = self.first - (ends - self.frames)
        gfns: GfnArray = np.arange(self.n_frames, dtype=np.int64) + np.repeat(shift, self.frames)
        return gfns

    def kinds(self) -> KindArray:
        """The kind of every frame, beside `gfns`."""
        return np.repeat(self.kind, self.frames)

    def of_kind(self, kind: FrameKind) -> FrameRuns:
        """The runs of one kind alone."""
        keep = self.kind == kind
        return FrameRuns(self.first[keep], self.frames[keep], self.kind[keep])

    def count(self, kind: FrameKind) -> int:
        """Frames of one kind."""
        return int(self.frames[self.kind == kind].sum())

    def check(self, n_frames: int) -> None:
        """Refuse runs that a guest of `n_frames` frames cannot have.

        Raises:
            FramesOutsideGuest: a run reaches beyond the end of memory.
            StreamError: an empty run, runs that are not ascending, or an unknown kind.
        """
        ends = self.first + self.frames
        outside = (self.first < 0) | (ends > n_frames) | (ends < self.first)
        if outside.any():
            i = int(np.argmax(outside))
            raise FramesOutsideGuest(
                f"the batch names {self.frames[i]} frames from gfn {self.first[i]:#x} on, but the "
                f"guest has {n_frames} frames; the source must send what Prepare announced"
            )
        if (self.frames < 1).any() or (self.first[1:] < ends[:-1]).any():
            raise StreamError("the batch's runs are empty, overlap or are not ascending")
        if not np.isin(self.kind, _KINDS).all():
            raise StreamError("the batch has frames of a kind that contract 1.0 does not know")
