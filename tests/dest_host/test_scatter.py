"""Pages land where the runs say; against a dictionary of frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dest_host.scatter import scatter
from paging_core.digest import FrameKey
from paging_core.errors import BatchCorrupt
from paging_core.units import FRAME_BYTES
from tests.keyed import KEY, frame_digest
from wire.batch import Batch
from wire.runs import FrameKind, FrameRuns

N_FRAMES = 40
FRAME_KEY = FrameKey.of(KEY)


def content(value: int) -> bytes:
    return value.to_bytes(2, "little") * (FRAME_BYTES // 2)


@st.composite
def said(draw: st.DrawFn) -> dict[int, tuple[FrameKind, int]]:
    """What a batch says about some frames: kind and value (0 is the value of a ZERO frame)."""
    gfns = draw(st.sets(st.integers(0, N_FRAMES - 1)))
    kinds = st.sampled_from(FrameKind)
    return {gfn: (draw(kinds), draw(st.integers(1, 1000))) for gfn in sorted(gfns)}


def batch_of(what: dict[int, tuple[FrameKind, int]], standing: dict[int, int]) -> Batch:
    kinds = [kind for kind, _ in what.values()]
    payload = b"".join(content(value) for kind, value in what.values() if kind is FrameKind.DATA)
    unchanged = [gfn for gfn, (kind, _) in what.items() if kind is FrameKind.UNCHANGED]
    digests = [frame_digest(content(standing[gfn])) for gfn in unchanged]
    return Batch(
        sequence=0,
        round=1,
        runs=FrameRuns.of(np.array(list(what), np.int64), np.array(kinds, np.uint8)),
        payload=payload,
        payload_raw_bytes=len(payload),
        unchanged_digests=np.array(digests, np.uint64),
    )


def as_frames(standing: dict[int, int]) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    joined = b"".join(content(standing[gfn]) for gfn in range(N_FRAMES))
    return np.frombuffer(joined, np.uint8).reshape(N_FRAMES, FRAME_BYTES).copy()


@given(st.lists(said(), max_size=3))
def test_batches_make_the_memory_that_they_describe(
    rounds: list[dict[int, tuple[FrameKind, int]]],
) -> None:
    standing = dict.fromkeys(range(N_FRAMES), 7)
    frames = as_frames(standing)
    for what in rounds:
        scatter(frames, batch_of(what, standing), FRAME_KEY)
        for gfn, (kind, value) in what.items():
            if kind is not FrameKind.UNCHANGED:
                standing[gfn] = value if kind is FrameKind.DATA else 0
    assert frames.tobytes() == as_frames(standing).tobytes()


@given(st.sets(st.integers(0, N_FRAMES - 1), min_size=1))
def test_a_batch_that_is_wrong_about_unchanged_frames_changes_nothing(wrong: set[int]) -> None:
    standing = dict.fromkeys(range(N_FRAMES), 7)
    frames = as_frames(standing)
    what = {gfn: (FrameKind.UNCHANGED if gfn % 2 else FrameKind.DATA, 9) for gfn in range(N_FRAMES)}
    what |= dict.fromkeys(wrong, (FrameKind.UNCHANGED, 0))
    batch = batch_of(what, standing | dict.fromkeys(wrong, 8))
    with pytest.raises(BatchCorrupt, match=f"{len(wrong)} frames unchanged.*gfn {min(wrong):#x}"):
        scatter(frames, batch, FRAME_KEY)
    assert frames.tobytes() == as_frames(standing).tobytes()
