"""A guest that runs in real time beside a transfer.

One that is driven runs in a thread of its own, in short slices; one that runs by itself needs none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Condition, Lock, Thread
from typing import Protocol

import structlog

from paging_core.errors import BadOption, forget_frames
from paging_core.exhaustion import ran_out
from paging_core.guest import Guest

SLICE_WALL_NS = 500_000
"""How long a slice should take: a clean waits for about as long until the guest stands still."""
MIN_SLICE_NS, MAX_SLICE_NS = 10_000, 5_000_000
"""Bounds of a slice in guest time; in between it is fitted to how fast the guest runs here."""
MAX_LAG_NS = 20_000_000
"""A guest further behind the clock than this is let off the rest instead of sprinting."""
NAP_S = 0.002
"""How long it sleeps when it has caught up with the clock: waking costs more than running."""

STARVED_S = 0.1
"""How long until a guest is tried again for which the host had no memory, or the like."""

_log = structlog.get_logger("wire.hosting.guest_thread")


class Pace(Protocol):
    """A guest in real time. It starts standing still. Thread-safe."""

    def resume(self) -> None:
        """Let it run, from where it stands, at the pace of the clock from now on."""

    def pause(self) -> None:
        """Stop it; it stands still when this returns."""

    def exclusive(self) -> AbstractContextManager[Guest]:
        """The guest, for one caller at a time; a driven one stands still meanwhile."""

    def still(self) -> AbstractContextManager[Guest]:
        """The guest, standing still meanwhile."""

    def check(self) -> None:
        """Raise what stopped the guest, if something did."""

    def stop(self) -> None:
        """It is run no more, and stays as it is."""


def in_real_time(guest: Guest) -> Pace:
    """The guest in real time: by itself where it can, else driven by a thread of this process.

    Raises:
        BadOption: it can run in neither way.
    """
    if guest.parts.paced is not None:
        return OwnPace(guest)
    return GuestThread(guest)


class OwnPace:
    """A `Pace` of a guest that runs by itself: it may be asked anything meanwhile."""

    def __init__(self, guest: Guest) -> None:
        """The guest stands still.

        Raises:
            BadOption: it does not run by itself.
        """
        paced = guest.parts.paced
        if paced is None:
            raise BadOption("this guest neither runs by itself nor can be driven")
        self._guest, self._paced, self._lock = guest, paced, Lock()
        self._running = False

    def resume(self) -> None:
        """See `Pace`."""
        with self._lock:
            self._paced.resume()
            self._running = True

    def pause(self) -> None:
        """See `Pace`."""
        with self._lock:
            self._running = False
            self._paced.pause()

    @contextmanager
    def still(self) -> Iterator[Guest]:
        """See `Pace`."""
        with self._lock:
            running = self._running
            if running:
                self._paced.pause()
            try:
                yield self._guest
            finally:
                if running:
                    self._paced.resume()

    @contextmanager
    def exclusive(self) -> Iterator[Guest]:
        """See `Pace`."""
        with self._lock:
            yield self._guest

    def check(self) -> None:
        """See `Pace`."""
        self._guest.check()

    def stop(self) -> None:
        """See `Pace`; a guest that somebody else has let run runs on."""
        if self._running:
            self.pause()


class GuestThread:
    """Runs a driven guest at the pace of the wall clock until it is stopped.

    Code that needs the guest to stand still takes it with `exclusive`; the guest's own turn is
    one slice at a time, during which kernels hold no interpreter lock.
    """

    def __init__(self, guest: Guest) -> None:
        """The guest stands still.

        Raises:
            BadOption: it cannot be driven.
        """
        driven = guest.parts.driven
        if driven is None:
            raise BadOption("this guest runs by itself and cannot be driven")
        self._guest, self._driven = guest, driven
        self._turn = Condition()
        self._running = False
        self._in_slice = False
        self._wanted = 0
        self._stopped = False
        self._failure: BaseException | None = None
        self._starved = False
        self._slice_ns = MIN_SLICE_NS
        self._wall_origin_ns = 0
        self._guest_origin_ns = 0
        self._thread = Thread(target=self._loop, name="guest", daemon=True)
        self._thread.start()

    def resume(self) -> None:
        """Let it run, from where it stands, at the pace of the clock from now on."""
        with self._turn:
            self._wall_origin_ns = time.monotonic_ns()
            self._guest_origin_ns = self._guest.time_ns
            self._running = True
            self._turn.notify_all()

    def pause(self) -> None:
        """Stop it; returns when its slice has ended."""
        with self._turn:
            self._running = False
            self._turn.notify_all()
            self._turn.wait_for(lambda: not self._in_slice)

    @contextmanager
    def exclusive(self) -> Iterator[Guest]:
        """The guest, standing still between two slices."""
        with self._turn:
            self._wanted += 1
            self._turn.wait_for(lambda: not self._in_slice)
        try:
            yield self._guest
        finally:
            with self._turn:
                self._wanted -= 1
                self._turn.notify_all()

    def still(self) -> AbstractContextManager[Guest]:
        """As `exclusive`."""
        return self.exclusive()

    def check(self) -> None:
        """Raise what stopped the guest, if something did."""
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End the thread; the guest stays as it is."""
        with self._turn:
            self._stopped = True
            self._running = False
            self._turn.notify_all()
        self._thread.join()

    def _loop(self) -> None:
        while self._take_turn():
            try:
                ahead_ns = self._slice()
                self._starved = False
            except Exception as failure:  # noqa: BLE001 - it is raised where its result is awaited
                ahead_ns = 0
                self._note(failure)
            self._end_turn(ahead_ns)

    def _note(self, failure: Exception) -> None:
        """Keep what stopped the guest; want of something stops it only until there is some."""
        limit = ran_out(failure)
        if limit is None:
            self._failure = forget_frames(failure)
        elif not self._starved:
            self._starved = True
            _log.warning("a guest stands still and is tried again", error=str(limit))

    def _take_turn(self) -> bool:
        with self._turn:
            self._turn.wait_for(lambda: self._stopped or (self._running and not self._wanted))
            self._in_slice = not self._stopped
            return self._in_slice

    def _slice(self) -> int:
        """Run one slice; returns how far the guest is ahead of the clock."""
        guest, began_ns = self._driven, time.monotonic_ns()
        due_ns = self._guest_origin_ns + began_ns - self._wall_origin_ns
        lag_ns = due_ns - guest.time_ns
        if lag_ns > MAX_LAG_NS:
            self._wall_origin_ns += lag_ns - MAX_LAG_NS
        guest.run(min(due_ns, guest.time_ns + self._slice_ns))
        self._fit_slice(time.monotonic_ns() - began_ns)
        return guest.time_ns - due_ns

    def _fit_slice(self, wall_ns: int) -> None:
        if wall_ns > SLICE_WALL_NS:
            self._slice_ns = max(MIN_SLICE_NS, self._slice_ns // 2)
        elif wall_ns < SLICE_WALL_NS // 4:
            self._slice_ns = min(MAX_SLICE_NS, self._slice_ns * 2)

    def _end_turn(self, ahead_ns: int) -> None:
        with self._turn:
            self._in_slice = False
            if self._failure is not None:
                self._running = False
            self._turn.notify_all()
            if ahead_ns >= 0 and self._running:
                self._turn.wait(STARVED_S if self._starved else NAP_S)
