"""Frames as runs: consecutive gfns of one kind are three numbers, however many they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pageferry.v1 import destination_pb2
from paging_core.errors import FramesOutsideGuest, StreamError

GfnArray = npt.NDArray[np.int64]
"""Guest frame numbers, ascending."""
KindArray = npt.NDArray[np.uint8]
"""A `FrameKind` per frame or per run."""
Digests = npt.NDArray[np.uint64]
"""Digests of frames, one each (`paging_core.digest`)."""


class FrameKind(IntEnum):
    """What a batch says about a frame; the numbers of the contract."""

    DATA = destination_pb2.FRAME_KIND_DATA
    """Its 4096 bytes are in the payload."""
    ZERO = destination_pb2.FRAME_KIND_ZERO
    """It is all zero; nothing is in the payload."""
    UNCHANGED = destination_pb2.FRAME_KIND_UNCHANGED
    """What was last sent still stands; its digest is in the batch."""


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
        frames = np.empty_like(at)
        frames[:-1] = at[1:]
        frames[-1:] = len(gfns)
        frames -= at
        return cls(gfns[at], frames, kinds[at])

    @cached_property
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
        if self.count(kind) == self.n_frames:
            return self
        keep = self.kind == kind
        return FrameRuns(self.first[keep], self.frames[keep], self.kind[keep])

    def count(self, kind: FrameKind) -> int:
        """Frames of one kind."""
        return self._counts[kind]

    def check(self, n_frames: int) -> None:
        """Refuse runs that a guest of `n_frames` frames cannot have.

        Raises:
            FramesOutsideGuest: a run reaches beyond the end of memory.
            StreamError: an empty run, runs that are not ascending, or an unknown kind.
        """
        first, frames = self.first, self.frames
        # As unsigned, so that a negative gfn is a large one; the sum cannot overflow then.
        outside = (first.view(np.uint64) > n_frames) | (frames > n_frames - first)
        if outside.any():
            i = int(outside.argmax())
            raise FramesOutsideGuest(
                f"the batch names {frames[i]} frames from gfn {int(first[i]):#x} on, but the "
                f"guest has {n_frames} frames; the source must send what Prepare announced"
            )
        if len(first) == 0:
            return
        if frames.min() < 1 or (first[1:] < first[:-1] + frames[:-1]).any():
            raise StreamError("the batch's runs are empty, overlap or are not ascending")
        if self.kind.min() < min(FrameKind) or self.kind.max() > max(FrameKind):
            raise StreamError("the batch has frames of a kind that contract 1.0 does not know")

    @cached_property
    def _counts(self) -> list[int]:
        """Frames by the number of their kind; exact, memory has fewer than 2**53 frames."""
        counts = np.bincount(self.kind, self.frames, minlength=len(FrameKind) + 1)
        return [int(count) for count in counts]
