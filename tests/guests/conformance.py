"""What every kind of guest must do: one suite, a subclass for each kind.

A kind's test class derives from `Conformance` and says how its guests are made. What is checked is
computed a second way: memory is compared byte by byte, and never with what a tracker says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pytest

from paging_core.errors import IllegalTransition
from paging_core.flow import FLOW_DTYPE, FlowRows
from paging_core.guest import DirtyWords, Guest
from paging_core.guest_accounts import FIXUP
from paging_core.log_dirty import count, frames_of
from paging_core.memory import GuestMemory
from tests.journey.hosts import until

MANY = 2_000
"""Operations after which a guest that writes has written something."""
STEP_NS = 20_000_000


class Conformance(ABC):
    """Every test of it holds for every guest that `guest` makes."""

    @abstractmethod
    def made(self) -> Guest:
        """A fresh guest that writes some of its memory, at rest, untracked."""

    @abstractmethod
    def arrived(self, memory: GuestMemory, state: bytes) -> Guest:
        """The guest made of what came from another host."""

    @pytest.fixture
    def guest(self) -> Iterator[Guest]:
        made = self.made()
        yield made
        made.close()

    # -- at rest -----------------------------------------------------------------------

    def test_its_memory_is_what_it_says(self, guest: Guest) -> None:
        assert guest.memory.frames.shape == (guest.n_frames, 4096)
        assert guest.memory.frames.dtype == np.uint8

    def test_nothing_happens_while_it_stands_still(self, guest: Guest) -> None:
        before, at = guest.memory.frames.copy(), (guest.time_ns, guest.position)
        guest.check()
        assert (guest.time_ns, guest.position) == at
        np.testing.assert_array_equal(guest.memory.frames, before)

    def test_it_runs_in_one_way_at_least(self, guest: Guest) -> None:
        parts = guest.parts
        assert parts.driven is not None or parts.paced is not None
        if parts.driven is not None:
            assert parts.stepped is not None

    def test_its_parts_stay_what_they_are(self, guest: Guest) -> None:
        before = guest.parts.names
        guest.start_tracking()
        advance(guest)
        assert guest.parts.names == before

    def test_closing_twice_gives_the_memory_back_once(self) -> None:
        guest = self.made()
        guest.close()
        guest.close()
        assert guest.memory.fd < 0

    # -- running -----------------------------------------------------------------------

    def test_it_runs_and_time_passes(self, guest: Guest) -> None:
        before, at = guest.position, guest.time_ns
        advance(guest)
        assert guest.position > before
        assert guest.time_ns > at

    def test_it_stands_still_when_it_was_paused(self, guest: Guest) -> None:
        advance(guest)
        before, at = guest.memory.frames.copy(), guest.position
        for _ in range(50):
            assert guest.position == at
        np.testing.assert_array_equal(guest.memory.frames, before)

    def test_pause_and_resume_may_be_said_twice(self, guest: Guest) -> None:
        paced = guest.parts.paced
        if paced is None:
            pytest.skip("it does not run by itself")
        paced.pause()
        paced.resume()
        paced.resume()
        paced.pause()
        paced.pause()

    def test_it_executes_exact_numbers(self, guest: Guest) -> None:
        stepped = guest.parts.stepped
        if stepped is None:
            pytest.skip("it cannot be stepped")
        before = guest.position
        for n in (1, 0, 7, 100):
            stepped.run_accesses(n)
            before += n
            assert guest.position == before

    def test_where_it_is_cut_changes_nothing(self, guest: Guest) -> None:
        """One run of so many operations leaves what several runs leave."""
        stepped = guest.parts.stepped
        if stepped is None:
            pytest.skip("it cannot be stepped")
        with another(self) as other:
            stepped.run_accesses(300)
            assert other.parts.stepped is not None
            for n in (1, 99, 200):
                other.parts.stepped.run_accesses(n)
            np.testing.assert_array_equal(other.memory.frames, guest.memory.frames)

    def test_driven_time_reaches_what_was_asked(self, guest: Guest) -> None:
        driven = guest.parts.driven
        if driven is None:
            pytest.skip("nobody drives it")
        until_ns = guest.time_ns + STEP_NS
        driven.run(until_ns)
        assert guest.time_ns >= until_ns
        at = guest.position
        driven.run(until_ns - 1)  # past it already
        assert guest.position == at
        reached_ns = guest.time_ns
        driven.stall(1_000)
        assert (guest.time_ns, guest.position) == (reached_ns + 1_000, at)

    # -- tracking ----------------------------------------------------------------------

    def test_every_frame_that_changed_is_dirty(self, guest: Guest) -> None:
        guest.start_tracking()
        for _ in range(3):  # again after a clean: it took write access back
            before = guest.memory.frames.copy()
            advance(guest)
            changed = changed_gfns(before, guest)
            assert len(changed)
            cleaned = guest.clean()
            assert set(changed) <= dirty_gfns(cleaned.dirty)
            clear(guest, cleaned.dirty)

    def test_a_clean_leaves_nothing_dirty(self, guest: Guest) -> None:
        guest.start_tracking()
        advance(guest)
        clear(guest, guest.clean().dirty)
        assert count(guest.peek()) == 0
        assert count(guest.clean().dirty) == 0

    def test_nothing_is_dirty_when_tracking_starts(self, guest: Guest) -> None:
        advance(guest)
        guest.start_tracking()
        assert count(guest.peek()) == 0

    def test_peeking_changes_nothing(self, guest: Guest) -> None:
        guest.start_tracking()
        advance(guest)
        seen = guest.peek()
        assert seen.shape == (-(-guest.n_frames // 64),)
        assert seen.dtype == np.uint64
        np.testing.assert_array_equal(guest.peek(), seen)
        assert dirty_gfns(guest.clean().dirty) <= dirty_gfns(seen)  # a filter may drop some

    def test_no_frame_beyond_its_memory_is_dirty(self, guest: Guest) -> None:
        guest.start_tracking()
        advance(guest)
        assert max(dirty_gfns(guest.clean().dirty)) < guest.n_frames

    def test_tracking_has_two_states(self, guest: Guest) -> None:
        guest.stop_tracking()  # off already
        for asked in (guest.clean, guest.peek):
            with pytest.raises(IllegalTransition):
                asked()
        guest.start_tracking()
        with pytest.raises(IllegalTransition):
            guest.start_tracking()
        guest.stop_tracking()
        with pytest.raises(IllegalTransition):
            guest.clean()
        advance(guest)
        guest.start_tracking()
        assert count(guest.peek()) == 0

    def test_what_is_known_of_a_clean_adds_up(self, guest: Guest) -> None:
        guest.start_tracking()
        before = guest.memory.frames.copy()
        advance(guest)
        changed = changed_gfns(before, guest)
        cleaned = guest.clean()
        dirty = count(cleaned.dirty)
        assert cleaned.cost_ns >= 0
        assert cleaned.fault_count >= 0
        if cleaned.falsely_dirty_count is not None:
            assert 0 <= cleaned.falsely_dirty_count <= dirty - len(changed)
        if cleaned.written is not None and cleaned.written.frames:
            assert cleaned.written.frames >= len(changed)

    # -- accounts ----------------------------------------------------------------------

    def test_it_counts_what_it_declares(self, guest: Guest) -> None:
        guest.start_tracking()
        advance(guest)
        counters, accounts = guest.counters(), guest.accounts
        assert set(counters.faults) == {*accounts.faults, "total"}
        assert set(counters.tracking_ns) <= set(accounts.causes)
        of_kinds = sum(n for kind, n in counters.faults.items() if kind not in {FIXUP, "total"})
        assert counters.faults["total"] == of_kinds
        assert list(accounts.faults)[-1] == FIXUP
        for account in (*accounts.faults.values(), *accounts.causes.values()):
            assert account.label
            assert account.help.endswith(".")

    def test_its_counters_begin_with_tracking_and_never_fall(self, guest: Guest) -> None:
        advance(guest)
        guest.start_tracking()
        before = guest.counters()
        assert before.accesses == 0
        at = guest.position
        advance(guest)
        after = guest.counters()
        assert after.accesses >= guest.position - at > 0  # a fork is an operation of many accesses
        for now, then in (
            (after.faults, before.faults),
            (after.events, before.events),
            (after.tracking_ns, before.tracking_ns),
        ):
            assert all(now[name] >= then[name] for name in then)
        if after.base_ns is not None:
            assert after.base_ns > 0
        assert after.slowdown is None  # nobody asked for a twin

    # -- moving ------------------------------------------------------------------------

    def test_it_goes_on_where_it_was(self, guest: Guest) -> None:
        advance(guest)
        moved = self._moved(guest)
        try:
            assert moved.position == guest.position
            assert moved.time_ns >= guest.time_ns  # what its arrival cost it may be added
            np.testing.assert_array_equal(moved.memory.frames, guest.memory.frames)
            if guest.parts.comparable is not None and moved.parts.comparable is not None:
                here = guest.parts.comparable.architectural_state()
                assert moved.parts.comparable.architectural_state() == here
            assert moved.parts.names == guest.parts.names
            advance(moved)
            assert moved.position > guest.position
        finally:
            moved.close()

    def test_it_does_there_what_it_had_done_here(self, guest: Guest) -> None:
        stepped = guest.parts.stepped
        if stepped is None:
            pytest.skip("it cannot be stepped")
        stepped.run_accesses(123)
        moved = self._moved(guest)
        try:
            stepped.run_accesses(500)
            assert moved.parts.stepped is not None
            moved.parts.stepped.run_accesses(500)
            np.testing.assert_array_equal(moved.memory.frames, guest.memory.frames)
        finally:
            moved.close()

    def _moved(self, guest: Guest) -> Guest:
        memory = GuestMemory(guest.n_frames)
        memory.frames[:] = guest.memory.frames
        return self.arrived(memory, guest.state())

    # -- parts -------------------------------------------------------------------------

    def test_a_log_that_is_cleared_in_parts(self, guest: Guest) -> None:
        clearer = guest.parts.clearer
        if clearer is None:
            pytest.skip("a clean clears its log")
        assert clearer.clear_chunk_frames > 0
        guest.start_tracking()
        advance(guest)
        dirty = frames_of(guest.clean().dirty)
        assert dirty_gfns(guest.peek()) == set(dirty.tolist())  # the clean left them
        clearer.clear_log(dirty[:1])
        assert dirty_gfns(guest.peek()) == set(dirty[1:].tolist())

    def test_its_flow_comes_whole_and_in_order(self, guest: Guest) -> None:
        flow = guest.parts.flow
        if flow is None:
            pytest.skip("it tells no flow")
        pieces: list[FlowRows] = []
        flow.note_flow(lambda rows: pieces.append(rows.copy()))
        guest.start_tracking()
        advance(guest)
        flow.note_flow(None)
        rows = np.concatenate(pieces)
        assert rows.dtype == FLOW_DTYPE
        assert (np.diff(rows["time_ps"]) >= 0).all()
        seen = len(rows)
        advance(guest)
        assert sum(map(len, pieces)) == seen

    def test_its_twin_runs_beside_it(self, guest: Guest) -> None:
        twin = guest.parts.twin
        if twin is None:
            pytest.skip("it can have none")
        twin.keep_twin()
        guest.start_tracking()
        advance(guest)
        counters = guest.counters()
        assert counters.untracked_ns is not None
        assert counters.untracked_ns > 0
        assert counters.slowdown is not None
        guest.stop_tracking()


def advance(guest: Guest) -> None:
    """Let it run for a while, by the way that it has; it stands still afterwards."""
    parts = guest.parts
    if parts.stepped is not None:
        parts.stepped.run_accesses(MANY)
        return
    assert parts.paced is not None
    target = guest.position + MANY
    parts.paced.resume()
    until(lambda: guest.position >= target)
    parts.paced.pause()


def changed_gfns(before: npt.NDArray[np.uint8], guest: Guest) -> list[int]:
    """Frames whose bytes differ."""
    found: list[int] = np.flatnonzero((before != guest.memory.frames).any(axis=1)).tolist()
    return found


def dirty_gfns(words: DirtyWords) -> set[int]:
    """Of a bitmap, bit by bit."""
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    return set(np.flatnonzero(bits).tolist())


def clear(guest: Guest, dirty: DirtyWords) -> None:
    """Clear what a clean left, where it leaves something."""
    if guest.parts.clearer is not None:
        guest.parts.clearer.clear_log(frames_of(dirty))


@contextmanager
def another(kind: Conformance) -> Iterator[Guest]:
    """One more fresh guest."""
    made = kind.made()
    try:
        yield made
    finally:
        made.close()
