"""Where pages land: a batch's frames are put where its runs say they belong."""

from __future__ import annotations

from paging_core.digest import FrameKey, frame_digests
from paging_core.errors import BatchCorrupt
from paging_core.memory import Frames
from wire.batch import Batch
from wire.runs import FrameKind, FrameRuns

_FEW_RUNS = 8
"""Up to so many runs a slice each is faster than one indexed assignment of all frames."""
_NAMED_FRAMES = 16


def scatter(frames: Frames, batch: Batch, key: FrameKey) -> None:
    """Put the frames of a checked batch into guest memory.

    Args:
        frames: guest memory, uint8, shape (n_frames, 4096).
        batch: its DATA is copied, its ZERO frames are cleared, and its UNCHANGED frames
            must be standing there already.
        key: of the digests of UNCHANGED frames.

    Raises:
        BatchCorrupt: frames that are said to be unchanged differ; names the first.
    """
    _check_unchanged(frames, batch, key)
    _put(frames, batch.runs.of_kind(FrameKind.DATA), batch.frames)
    _clear(frames, batch.runs.of_kind(FrameKind.ZERO))


def _put(frames: Frames, runs: FrameRuns, content: Frames) -> None:
    if len(runs.first) > _FEW_RUNS:
        frames[runs.gfns()] = content
        return
    at = 0
    for first, count in zip(runs.first.tolist(), runs.frames.tolist(), strict=True):
        frames[first : first + count] = content[at : at + count]
        at += count


def _clear(frames: Frames, runs: FrameRuns) -> None:
    if len(runs.first) > _FEW_RUNS:
        frames[runs.gfns()] = 0
        return
    for first, count in zip(runs.first.tolist(), runs.frames.tolist(), strict=True):
        frames[first : first + count] = 0


def _check_unchanged(frames: Frames, batch: Batch, key: FrameKey) -> None:
    gfns = batch.runs.of_kind(FrameKind.UNCHANGED).gfns()
    if not len(gfns):
        return
    differing = gfns[frame_digests(frames[gfns], key) != batch.unchanged_digests]
    if len(differing):
        named = ", ".join(f"{gfn:#x}" for gfn in differing[:_NAMED_FRAMES].tolist())
        raise BatchCorrupt(
            f"batch {batch.sequence} calls {len(differing)} frames unchanged that do not stand "
            f"here as it says, first at gfn {named}; send their content"
        )
