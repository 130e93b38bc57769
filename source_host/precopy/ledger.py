"""Which frames the destination is owed, and which it ever got.

The invariant on which "no lost update" rests: a frame whose content at the destination may be
stale is either owed here or dirty in the log. Sending settles a debt *before* the bytes are
read, so a write after that is the log's to find; a clean turns what the log found into debt.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paging_core.guest import DirtyWords
from paging_core.log_dirty import GfnArray


class Ledger:
    """One flag per frame for each of the two questions; at first everything is owed."""

    def __init__(self, n_frames: int) -> None:
        self._owed = np.ones(n_frames, np.bool_)
        self._ever_sent = np.zeros(n_frames, np.bool_)

    def owe(self, dirty: DirtyWords) -> None:
        """Add the frames of a dirty bitmap to what is owed."""
        n_frames = len(self._owed)
        bits = np.unpackbits(dirty.view(np.uint8), count=n_frames, bitorder="little")
        self._owed |= bits.view(np.bool_)

    def settle(self, gfns: GfnArray) -> None:
        """These frames are about to be read and sent."""
        self._owed[gfns] = False

    def owe_whole(self, gfns: GfnArray) -> None:
        """These frames are owed as if they had never been sent: nothing is suppressed of them."""
        self._owed[gfns] = True
        self._ever_sent[gfns] = False

    def sent(self, gfns: GfnArray) -> None:
        """These frames were sent."""
        self._ever_sent[gfns] = True

    def ever_sent(self, gfns: GfnArray) -> npt.NDArray[np.bool_]:
        """Whether each of these frames was sent before."""
        return self._ever_sent[gfns]

    @property
    def owed_frames(self) -> int:
        """How many frames are owed."""
        return int(np.count_nonzero(self._owed))

    @property
    def unique_frames(self) -> int:
        """How many distinct frames were ever sent."""
        return int(np.count_nonzero(self._ever_sent))

    def owed_gfns(self) -> GfnArray:
        """The frames that are owed, ascending, int64."""
        return np.flatnonzero(self._owed).astype(np.int64, copy=False)


def take_batch(
    todo: GfnArray, at: int, limit: int, dirty: DirtyWords | None
) -> tuple[GfnArray, int]:
    """The next frames of a round: up to `limit` of them, in order, that are not dirty again.

    Args:
        todo: what the round set out to send, ascending.
        at: index in `todo` to go on from.
        limit: most frames to take.
        dirty: frames to pass over; None passes over none.

    Returns:
        The frames, and the index after the last one looked at.
    """
    if dirty is None:
        return todo[at : at + limit], min(at + limit, len(todo))
    parts: list[GfnArray] = []
    while at < len(todo) and limit > 0:
        window = todo[at : at + limit]
        chosen = window[~_bits(dirty, window)]
        parts.append(chosen)
        limit -= len(chosen)
        at += len(window)
    return np.concatenate(parts) if parts else todo[:0], at


def _bits(words: DirtyWords, gfns: GfnArray) -> npt.NDArray[np.bool_]:
    shifted: npt.NDArray[np.uint64] = words[gfns >> 6] >> (gfns & 63).astype(np.uint64)
    return (shifted & np.uint64(1)).astype(np.bool_)
