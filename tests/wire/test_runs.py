"""Runs against the obvious model: a list of (gfn, kind) pairs."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paging_core.errors import FramesOutsideGuest, StreamError
from wire.runs import FrameKind, FrameRuns

Pairs = list[tuple[int, int]]


@st.composite
def pairs(draw: st.DrawFn) -> Pairs:
    """Ascending gfns, often neighbours, with kinds that often repeat."""
    gaps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 7, 1000]), max_size=60))
    kinds = st.sampled_from([1, 1, 2, 3])
    gfns = np.cumsum(gaps).tolist()
    return [(gfn, draw(kinds)) for gfn in gfns]


def runs_of(frames: Pairs) -> FrameRuns:
    return FrameRuns.of(
        np.array([gfn for gfn, _ in frames], np.int64),
        np.array([kind for _, kind in frames], np.uint8),
    )


def plain_runs(frames: Pairs) -> list[tuple[int, int, int]]:
    """(first, frames, kind) by grouping neighbours of one kind."""
    numbered = enumerate(frames)
    groups = groupby(numbered, key=lambda item: (item[1][0] - item[0], item[1][1]))
    found = []
    for (_, kind), members in groups:
        gfns = [pair[0] for _, pair in members]
        found.append((gfns[0], len(gfns), kind))
    return found


@given(pairs())
def test_runs_are_the_fewest_and_say_the_same(frames: Pairs) -> None:
    runs = runs_of(frames)
    said = list(zip(runs.first.tolist(), runs.frames.tolist(), runs.kind.tolist(), strict=True))
    assert said == plain_runs(frames)
    assert list(zip(runs.gfns().tolist(), runs.kinds().tolist(), strict=True)) == frames
    assert runs.n_frames == len(frames)


@given(pairs(), st.sampled_from(list(FrameKind)))
def test_the_runs_of_one_kind(frames: Pairs, kind: FrameKind) -> None:
    chosen = runs_of(frames).of_kind(kind)
    expected = [gfn for gfn, each in frames if each == kind]
    assert chosen.gfns().tolist() == expected
    assert set(chosen.kinds().tolist()) <= {int(kind)}
    assert runs_of(frames).count(kind) == len(expected)


def test_types_do_not_depend_on_content() -> None:
    for frames in ([], [(4, 1)]):
        runs = runs_of(frames)
        assert runs.gfns().dtype == np.dtype(np.int64)
        assert runs.kinds().dtype == np.dtype(np.uint8)


@given(pairs(), st.integers(0, 3))
def test_runs_within_the_guest_pass(frames: Pairs, beyond: int) -> None:
    end = frames[-1][0] + 1 if frames else 0
    runs_of(frames).check(end + beyond)


def made(first: list[int], frames: list[int], kind: list[int]) -> FrameRuns:
    return FrameRuns(
        np.array(first, np.int64), np.array(frames, np.int64), np.array(kind, np.uint8)
    )


@pytest.mark.parametrize(
    "runs",
    [
        made([90], [11], [1]),
        made([100], [1], [1]),
        made([0, 200], [1, 1], [1, 1]),
        made([-1], [1], [1]),  # a gfn of 2**64 - 1 on the wire
        made([2**63 - 1], [2**32 - 1], [1]),
        made([0], [2**32 - 1], [2]),
    ],
)
def test_frames_outside_the_guest(runs: FrameRuns) -> None:
    with pytest.raises(FramesOutsideGuest, match="guest has 100 frames"):
        runs.check(100)


@pytest.mark.parametrize(
    ("runs", "why"),
    [
        (made([4], [0], [1]), "empty"),
        (made([4, 5], [2, 1], [1, 2]), "overlap"),
        (made([9, 4], [1, 1], [1, 1]), "not ascending"),
        (made([4], [1], [0]), "kind"),
        (made([4], [1], [4]), "kind"),
    ],
)
def test_runs_that_cannot_be(runs: FrameRuns, why: str) -> None:
    with pytest.raises(StreamError, match=why):
        runs.check(100)
