"""The verbs of a migration and what befalls it: see README.md beside this file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from paging_core import errors
from paging_core.errors import OutcomeUnknown, PageferryError
from paging_core.kinds import BitRate, Duration
from source_host.migration import Resolution
from source_host.precopy.link import Link
from source_host.precopy.policies import PolicyName
from source_host.precopy.report import Report
from tests.guests.fake import FakeGuest, busy
from tests.scenarios.runner import Verb, numbers_of, settings_of, shown
from tests.source_host.harness import Trip, filled
from wire.batch import Batch
from wire.hosting.guests.states import GuestState

_TIME = Duration("time", "2000s")


def _plan(settings: dict[str, str]) -> dict[str, Any]:
    read: dict[str, Callable[[str], Any]] = {
        "policy": PolicyName,
        "max_rounds": int,
        "warmup": _TIME.parse,
        "max_downtime": _TIME.parse,
        "downtime_limit": _TIME.parse,
        "suppress": lambda text: text == "yes",
        "link": lambda text: Link(BitRate().parse(text)),
    }
    ending = {"warmup": "_ns", "max_downtime": "_ns", "downtime_limit": "_ns"}
    return {name + ending.get(name, ""): read[name](text) for name, text in settings.items()}


class Journey:
    """One guest that writes a word at a time, one migration, one destination."""

    def __init__(self) -> None:
        self._plan: dict[str, Any] = {}
        self._trip: Trip | None = None
        self._report: Report | None = None
        self._running = True
        self._guest: FakeGuest | None = None

    @property
    def verbs(self) -> dict[str, Verb]:
        """Every verb by its name."""
        return {
            "machine": self._machine,
            "plan": self._set_plan,
            "fail": self._fail,
            "lose-answer": self._lose_answer,
            "spoil": self._spoil,
            "unseen-write": self._unseen_write,
            "cancel": self._cancel,
            "migrate": self._migrate,
            "rounds": self._rounds,
            "resolve": self._resolve,
            "same-memory": self._same_memory,
        }

    def _machine(self, words: list[str]) -> Iterable[str]:
        """``machine frames=2000 writes=0..899 [paused]``"""
        settings = settings_of(words)
        written = numbers_of(settings["writes"]) if "writes" in settings else []
        target = busy(written[0], len(written)) if written else None
        self._guest = filled(FakeGuest(int(settings["frames"]), target))
        self._running = "paused" not in settings
        return ()

    def _set_plan(self, words: list[str]) -> Iterable[str]:
        self._plan |= _plan(settings_of(words))
        return ()

    @property
    def trip(self) -> Trip:
        """The migration, made when it is first spoken of."""
        if self._trip is None:
            assert self._guest is not None, "a journey begins with: machine"
            self._trip = Trip(self._guest, running=self._running, **self._plan)
        return self._trip

    def _fail(self, words: list[str]) -> Iterable[str]:
        """``fail CALL N ERROR text``: the N-th call of that name, from 1, ends so."""
        call, number, name, *text = words
        error: PageferryError = getattr(errors, name)(" ".join(text))
        faults = self.trip.destination.faults.setdefault(call, [])
        while len(faults) < int(number) - 1:
            faults.append(lambda: None)
        faults.append(error)
        return ()

    def _lose_answer(self, _words: list[str]) -> Iterable[str]:
        """The commit happens and its answer never comes."""
        faults = self.trip.destination.faults
        faults["commit answer"] = [OutcomeUnknown("commit was sent and no answer came")]
        return ()

    def _spoil(self, words: list[str]) -> Iterable[str]:
        """``spoil GFNS [again]``: these frames differ at the destination when they are compared."""
        destination, gfns = self.trip.destination, numbers_of(words[0])

        def flip() -> None:
            destination.frames[gfns, 9] ^= 1

        destination.faults["begin_compare"] = [flip]
        if "again" in words:  # and once more after they were sent again
            nothing: list[Any] = [lambda: None] * 6
            destination.faults["drain"] = [*nothing, flip]
        return ()

    def _unseen_write(self, words: list[str]) -> Iterable[str]:
        """``unseen-write GFN BATCH``: the guest writes, and no tracker sees it."""
        gfn, number = int(words[0], 0), int(words[1])

        def write(batch: Batch) -> None:
            if batch.sequence == number:
                self.trip.guest.memory.frames[gfn, 0] ^= 1

        self.trip.destination.on_send = write
        return ()

    def _cancel(self, words: list[str]) -> Iterable[str]:
        """``cancel at BATCH``: cancel while this batch is on its way."""
        number = int(words[-1])

        def cancel(batch: Batch) -> None:
            if batch.sequence == number:
                self.trip.migration.cancel()

        self.trip.destination.on_send = cancel
        return ()

    def _migrate(self, _words: list[str]) -> Iterator[str]:
        self._report = self.trip.run()
        yield f"states: {' > '.join(self.trip.notes.states)}"
        yield from self._outcome()

    def _outcome(self) -> Iterator[str]:
        report = self.trip.migration.report()
        if report.error is not None:
            yield f"{type(report.error).__name__}: {report.error}"
        moved = self.trip.life.state is GuestState.MOVED
        tracked = ", still tracked" if self.trip.guest.tracking and not moved else ""
        yield f"guest at the source: {self.trip.life.state.value}{tracked}"
        yield f"destination: {self._destination()}"

    def _destination(self) -> str:
        destination = self.trip.destination
        if destination.handover is not None:
            starts = " and runs it" if destination.handover.start else ", paused"
            return f"has the guest{starts}"
        if destination.aborted:
            return "told to forget it"
        return "has nothing" if destination.offer is None else "was not told"

    def _rounds(self, _words: list[str]) -> Iterator[str]:
        for done in self.trip.migration.report().rounds:
            name = "repair" if done.repair else "last" if done.stop_and_copy else str(done.round)
            kinds = {
                "data": done.data_frames,
                "zero": done.zero_frames,
                "unchanged": done.suppressed_frames,
                "skipped": done.skipped_frames,
            }
            crossed = ", ".join(f"{kind} {n}" for kind, n in kinds.items() if n) or "nothing"
            after = "" if done.stop_and_copy else f"; then dirty {done.dirty_frames}"
            yield f"round {name}: {crossed}{after}"

    def _resolve(self, words: list[str]) -> Iterator[str]:
        forced = Resolution(words[0]) if words else None
        self.trip.migration.resolve(forced)
        yield f"states: {' > '.join(self.trip.notes.states)}"
        yield from self._outcome()

    def _same_memory(self, _words: list[str]) -> Iterator[str]:
        here, there = self.trip.guest.memory.frames, self.trip.destination.frames
        yield f"differing frames: {shown((here != there).any(axis=1).nonzero()[0].tolist())}"
