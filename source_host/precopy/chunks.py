"""Clearing the log chunk by chunk, each right before the first of its frames is sent.

KVM_CLEAR_DIRTY_LOG and QEMU's clear-bitmap: a frame that is written between the sync and the
clearing of its chunk costs no fault, and crosses once, with its newest content.
"""

from __future__ import annotations

import numpy as np

from paging_core.log_dirty import GfnArray
from source_host.precopy.clocks import Clock
from source_host.precopy.policies import BATCH_FRAMES


class Chunks:
    """Which chunks were cleared in this round."""

    def __init__(self, n_frames: int, chunk_frames: int) -> None:
        """None yet.

        Args:
            n_frames: of guest memory.
            chunk_frames: of a chunk; 0 if cleans clear everything at once.
        """
        self._chunk_frames = chunk_frames
        count = -(-n_frames // chunk_frames) if chunk_frames else 0
        self._cleared = np.zeros(count, np.bool_)

    def begin(self) -> None:
        """A round begins."""
        self._cleared[:] = False

    def clear_for(self, todo: GfnArray, at: int, clock: Clock) -> GfnArray:
        """Clear the log for the frames that come next.

        Args:
            todo: frames of the round.
            at: index of the first that was not yet looked at.
            clock: has the guest.

        Returns:
            `todo` up to the last frame whose log is clear: beyond it the bitmap does not say
            who is dirty *again*.
        """
        if not self._chunk_frames:
            return todo
        end = min(at + BATCH_FRAMES, len(todo))
        wanted = np.unique(todo[at:end] // self._chunk_frames)
        wanted = wanted[~self._cleared[wanted]]
        if len(wanted):
            with clock.exclusive() as guest:
                clearer = guest.parts.clearer
                assert clearer is not None  # noqa: S101 - it told its chunk size
                for chunk in wanted.tolist():
                    clearer.clear_log(self._of(chunk, todo))
            self._cleared[wanted] = True
        return todo[:end]

    def _of(self, chunk: int, todo: GfnArray) -> GfnArray:
        """The frames of a chunk that this round sends; no others may be cleared."""
        first, end = np.searchsorted(
            todo, (chunk * self._chunk_frames, (chunk + 1) * self._chunk_frames)
        )
        return todo[first:end]
