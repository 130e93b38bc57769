"""How adaptive groups learn on real memory, where no D bit can be read.

Of a frame that a group opened, only who sends it finds out whether anybody wrote it. So a round is
judged a clean later than in the model, when the sender has told; the prices, the history and the
choice are the model's (paging_core.kernels.adaptive). Without a sender that tells, opened frames
count as written, and groups do not shrink.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from guests.compiled import kernel
from paging_core.kernels.adaptive import adapt_groups, add_round_to_history, note_written
from paging_core.kernels.arrays import awaiting_send, frame_at
from paging_core.kernels.state import Core

Words = npt.NDArray[np.int64]


@kernel
def judge_last_round(m: Core, written: Words) -> None:
    """A clean begins: what the one before it found becomes history, and sizes are chosen anew.

    Args:
        written: what that found, without what the sender found unchanged.
    """
    add_round_to_history(m, False)
    for gfn in range(m.n_frames):
        if (written[gfn >> 6] >> (gfn & 63)) & 1:
            note_written(m, gfn, False)
    adapt_groups(m, False)


@kernel
def note_opened(m: Core) -> None:
    """A clean ends the round: which frames were only opened is remembered for the sender."""
    for i in range(m.log.dirty_words):
        awaiting_send(m)[i] = 0
    for gfn in range(m.n_frames):
        if frame_at(m, gfn).opened != 0:
            awaiting_send(m)[gfn >> 6] |= 1 << (gfn & 63)
        frame_at(m, gfn).opened = 0


@kernel
def note_unchanged(
    m: Core, written: Words, gfns: npt.NDArray[np.int64], changed: npt.NDArray[np.bool_]
) -> None:
    """The sender knows which frames had changed: those that did not, nobody wrote.

    Args:
        m: the core.
        written: what the last clean found; unchanged ones that were only opened leave it.
        gfns: of one message, within the bitmap.
        changed: whether each had.
    """
    m.group.send_feedback = 1
    for i in range(len(gfns)):
        word, bit = gfns[i] >> 6, 1 << (gfns[i] & 63)
        if changed[i] == 0 and awaiting_send(m)[word] & bit:
            written[word] &= ~bit
