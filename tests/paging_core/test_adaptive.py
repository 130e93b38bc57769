"""Adaptive groups: they grow where neighbours are written, split where they are not.

And groups that open with their K-th dirty frame.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paging_core import log_dirty
from paging_core.config import CleanPolicy, GroupPolicy, GroupScope, Paging, TrackerConfig
from paging_core.errors import BadOption
from paging_core.kernels.adaptive import COST, MAX_ORDER, ORDER
from paging_core.model_guest import ModelGuest
from tests.paging_core.reference.adaptive import AdaptiveGroups
from tests.paging_core.reference.harness import boot, get_and_clear, run, walker
from tests.paging_core.reference.programs import mmap, read, write
from tests.paging_core.reference.tracker import run_of

FIRST_PAGE = 0x400
PAGES = 512
TRACKERS = [
    TrackerConfig(Paging.HAP, CleanPolicy.LAZY, group=GroupPolicy(adaptive=True)),
    TrackerConfig(Paging.SHADOW, CleanPolicy.WRITE_PROTECT, group=GroupPolicy(adaptive=True)),
    TrackerConfig(Paging.SHADOW, CleanPolicy.BLOW, group=GroupPolicy(adaptive=True)),
    TrackerConfig(Paging.SHADOW, CleanPolicy.CLEAR_LOG, group=GroupPolicy(adaptive=True)),
]
every_tracker = pytest.mark.parametrize("tracker", TRACKERS, ids=lambda t: t.clean_policy)


def tracked(tracker: TrackerConfig) -> ModelGuest:
    """A guest with 512 pages that it has written before."""
    guest = boot(tracker, 2048)
    run(guest, [mmap(FIRST_PAGE, PAGES), *(write(FIRST_PAGE + i) for i in range(PAGES))])
    guest.start_tracking()
    return guest


def fixups(guest: ModelGuest) -> int:
    return guest.counters().faults["fixup"]


def epoch(guest: ModelGuest, pages: list[int], *, feedback: bool = True) -> tuple[int, int]:
    """Write some pages, clean, send; the fixups it took and the frames falsely dirty."""
    before = fixups(guest)
    run(guest, [write(FIRST_PAGE + page) for page in pages])
    cleaned = get_and_clear(guest)
    assert cleaned.falsely_dirty_count is not None
    if feedback:
        gfns = log_dirty.frames_of(cleaned.dirty)
        guest.note_sent(gfns, np.ones(len(gfns), np.bool_))
    return fixups(guest) - before, cleaned.falsely_dirty_count


def orders(guest: ModelGuest) -> set[int]:
    return set(guest.machine.groups[:, ORDER].tolist())


@every_tracker
def test_a_dense_writer_gets_large_groups(tracker: TrackerConfig) -> None:
    guest = tracked(tracker)
    rounds = [epoch(guest, list(range(PAGES))) for _ in range(4)]
    assert rounds[0][0] < PAGES / 8
    assert rounds[-1][0] < rounds[0][0] / 2
    assert max(orders(guest)) == MAX_ORDER


@every_tracker
@pytest.mark.parametrize("feedback", [True, False])
def test_a_sparse_writer_gets_none(tracker: TrackerConfig, *, feedback: bool) -> None:
    guest = tracked(tracker)
    lonely = list(range(0, PAGES, 64))
    for _ in range(4):
        assert epoch(guest, lonely, feedback=feedback)[1] == 0
    assert orders(guest) == {0}


@every_tracker
def test_groups_that_were_large_split_when_the_writer_turns_sparse(
    tracker: TrackerConfig,
) -> None:
    guest = tracked(tracker)
    for _ in range(4):
        epoch(guest, list(range(PAGES)), feedback=False)
    false = [epoch(guest, [5, 250, 400], feedback=False)[1] for _ in range(10)]
    assert false[0] > 200
    assert false[-1] == 0


@every_tracker
def test_an_idle_guest_opens_nothing_and_learns_nothing(tracker: TrackerConfig) -> None:
    guest = tracked(tracker)
    assert [epoch(guest, []) for _ in range(3)] == [(0, 0)] * 3
    assert orders(guest) == {0}


def test_a_false_dirty_that_costs_a_digest_makes_groups_bold() -> None:
    """Every third page: opening all of them is worth a digest for two, and not a page."""
    third = list(range(0, PAGES, 3))
    costs = {}
    for feedback in (False, True):
        guest = tracked(TRACKERS[0])
        costs[feedback] = [epoch(guest, third, feedback=feedback) for _ in range(4)][-1]
    assert costs[False] == (len(third), 0)
    assert costs[True][0] < len(third) / 10


def test_one_region_learns_nothing_from_another() -> None:
    guest = tracked(TRACKERS[0])
    before = guest.machine.groups.copy()
    for _ in range(4):
        epoch(guest, [0, 200])
    changed = np.flatnonzero((guest.machine.groups != before).any(axis=1))
    assert 1 <= len(changed) <= 3  # where those pages lie, and the tables that map them


def mapped_twice(*, changed: bool) -> tuple[int, int]:
    """Xen's tracker, frames that user and kernel map: those that wait for the sender, a cost."""
    tracker = TrackerConfig(Paging.SHADOW, CleanPolicy.BLOW, group=GroupPolicy(adaptive=True))
    guest = boot(tracker, 512)
    pages = range(FIRST_PAGE, FIRST_PAGE + 16)
    run(guest, [write(page) for page in pages])
    guest.start_tracking()
    run(guest, [mmap(0x8000, 1)])  # the kernel's first frames, and what Xen prefetches behind them
    run(guest, [*map(read, pages), *map(write, pages[:2])])
    gfns = log_dirty.frames_of(get_and_clear(guest).dirty)
    waiting = log_dirty.count(guest.machine.awaiting_send.view(np.uint64))
    guest.note_sent(gfns, np.full(len(gfns), changed))
    assert log_dirty.count(guest.machine.awaiting_send.view(np.uint64)) == 0
    guest.clean()
    return waiting, int(guest.machine.groups[0, COST + 1])


def test_the_sender_decides_what_d_bits_leave_open() -> None:
    """Without a reverse map nobody knows who wrote a frame mapped twice, but the digest does."""
    waiting, had_changed = mapped_twice(changed=True)
    _, had_not = mapped_twice(changed=False)
    assert waiting > 0
    assert had_not - had_changed == waiting * 450_000 // 2  # a round ago counts half


SPREADS = st.tuples(
    st.integers(0, PAGES - 1), st.sampled_from([1, 1, 2, 3, 7]), st.integers(0, 300)
).map(lambda s: [page % PAGES for page in range(s[0], s[0] + s[1] * s[2], s[1])])


@settings(max_examples=20)
@given(st.lists(SPREADS, min_size=1, max_size=5), st.booleans())
def test_under_hap_adaptive_groups_are_what_the_page_about_them_says(
    rounds: list[list[int]],
    feedback: bool,
) -> None:
    guest = tracked(TRACKERS[0])
    gfn_of = gfns_of_pages(guest)
    rule = AdaptiveGroups(guest.n_frames, suppressed=feedback)
    if feedback:
        guest.note_sent(np.zeros(0, np.int64), np.zeros(0, np.bool_))
    for pages in rounds:
        for page in pages:
            rule.write(gfn_of[page])
        run(guest, [write(FIRST_PAGE + page) for page in pages])
        assert set(log_dirty.frames_of(guest.peek()).tolist()) == rule.dirty
        assert set(log_dirty.frames_of(get_and_clear(guest).dirty).tolist()) == rule.clean()
        assert guest.machine.groups[:, ORDER].tolist() == list(rule.orders.values())


def test_it_knows_nothing_that_hardware_does_not_tell() -> None:
    """The model's record of true writes has no influence."""
    states = []
    for falsified in (False, True):
        guest = tracked(TRACKERS[0])
        for _ in range(4):
            run(guest, [write(FIRST_PAGE + page) for page in range(0, PAGES, 3)])
            if falsified:
                guest.machine.frames["written"] = 1
            get_and_clear(guest)
        states.append(guest.machine.groups.copy())
    assert (states[0] == states[1]).all()


def test_tracking_that_starts_again_has_forgotten_everything() -> None:
    guest = tracked(TRACKERS[0])
    epoch(guest, list(range(PAGES)))
    guest.stop_tracking()
    guest.start_tracking()
    assert not guest.machine.groups.any()


def test_its_memory_is_192_bytes_for_512_frames_and_a_bit_for_each() -> None:
    guest = boot(TRACKERS[0], 4096)
    assert guest.machine.groups.nbytes == 4096 // 512 * 192
    assert guest.machine.awaiting_send.nbytes == 4096 // 8


# -- density-triggered -------------------------------------------------------------------


def triggered(k: int, n: int, scope: GroupScope, paging: Paging = Paging.SHADOW) -> ModelGuest:
    return tracked(TrackerConfig(paging, group=GroupPolicy(n, scope, trigger=k)))


@pytest.mark.parametrize("scope", GroupScope)
@pytest.mark.parametrize(("k", "n"), [(2, 8), (3, 8), (2, 64), (2, 512)])
def test_a_group_opens_with_its_kth_dirty_frame(k: int, n: int, scope: GroupScope) -> None:
    guest = triggered(k, n, scope)
    pages = [0, 2, 5][:k]
    for i, page in enumerate(pages, 1):
        before = len(log_dirty.frames_of(guest.peek()))
        run(guest, [write(FIRST_PAGE + page)])
        grown = len(log_dirty.frames_of(guest.peek())) - before
        assert (grown == 1) == (i < k), (i, grown)


@given(
    st.lists(st.integers(0, PAGES - 1), max_size=40),
    st.integers(1, 4),
    st.sampled_from([4, 16, 64, 1024]),
)
def test_under_hap_exactly_the_runs_with_k_dirty_frames_are_open(
    pages: list[int], k: int, n: int
) -> None:
    guest = triggered(k, n, GroupScope.PHYSICAL, Paging.HAP)
    # Only user stores from here on: guest entries are accessed and dirty already.
    gfn_of = gfns_of_pages(guest)
    expected = set(log_dirty.frames_of(guest.peek()).tolist())
    for page in pages:
        gfn = gfn_of[page]
        if gfn not in expected:
            run_around = run_of(gfn, n, guest.n_frames)
            expected.add(gfn)
            if len(expected & run_around) >= k:
                expected |= run_around
        run(guest, [write(FIRST_PAGE + page)])
        assert set(log_dirty.frames_of(guest.peek()).tolist()) == expected


def gfns_of_pages(guest: ModelGuest) -> list[int]:
    leaves = [walker(guest).translate(FIRST_PAGE + i << 12) for i in range(PAGES)]
    return [leaf.gfn for leaf in leaves if leaf is not None]


@pytest.mark.parametrize(
    ("group", "says"),
    [
        ({"frames": 8, "adaptive": True}, "drop --group-trigger"),
        ({"adaptive": True, "trigger": 2}, "drop --group-trigger"),
        ({"frames": 4, "trigger": 5}, "not between 1 and the 4 frames"),
        ({"trigger": 2}, "not between 1 and the 1 frames"),
        ({"frames": 4, "trigger": 0}, "not between 1"),
    ],
)
def test_groups_that_cannot_be(group: dict[str, int], says: str) -> None:
    with pytest.raises(BadOption, match=says):
        GroupPolicy(**group)  # type: ignore[arg-type]


def test_adaptive_groups_and_pml_exclude_each_other() -> None:
    with pytest.raises(BadOption, match="nothing to group"):
        TrackerConfig(Paging.HAP, pml=True, group=GroupPolicy(adaptive=True))
