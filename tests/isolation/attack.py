"""Attack guests of this process, one after the other, and print what became of them.

    python -m tests.isolation.attack SEED WORDS SECONDS

Overwrites WORDS words (or goes on for SECONDS, whichever ends first, but attacks each kind of guest
at least once) of guests that arrive here or that run here. The process ends otherwise than with 0,
or hangs, if a guest does anything but be refused, crash as a guest, or run on.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from paging_core import log_dirty
from paging_core.errors import GuestCrashed, InvalidInput
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from tests.isolation.attacker import Attacker
from tests.isolation.templates import Template, templates
from tests.isolation.witnesses import Fences, OtherGuests

_HANGS_S = 240
"""An attack takes milliseconds; this is for a machine with a great deal else to do."""
_ATTACKS_AT_A_TIME = 12
_MOST_WORDS = (2, 48, 1000, 4000)
"""At a time; a fork or a fault meets few of the few, and all of the many."""


class Attacks:
    """Attacks on guests of one template, on the same arrays each time."""

    def __init__(self, template: Template, seed: int, counted: Counter[str]) -> None:
        self._template = template
        self._attacker = Attacker(template, seed)
        self._counted = counted
        self._memory = GuestMemory(len(template.words))
        self._memory.words[:] = template.words
        self._fences = [Fences(template.arrive(self._memory))]

    def arriving(self) -> None:
        """Somebody hands over a guest that is not one."""
        state, words = None, self._memory.words
        words[:] = self._template.words
        if self._attacker.chance(0.5):
            state = self._attacker.state()
            self._counted["words"] += 1
        else:
            self._meddle(self._attacker.upto(4))
        try:
            guest = self._template.arrive(self._memory, state)
        except InvalidInput as refusal:
            _check_line(str(refusal))
            self._counted["refused"] += 1
            return
        self._run_on(guest, strides=2)

    def running(self) -> None:
        """A guest that arrived as it should be comes by hostile words later."""
        self._memory.words[:] = self._template.words
        guest = self._template.arrive(self._memory)
        self._run_on(guest, strides=6)

    def check(self, others: OtherGuests) -> None:
        """Nothing happened outside this guest."""
        for fences in self._fences:
            fences.check()
        others.check_unseen(self._memory.words)

    def close(self) -> None:
        """Give its memory back."""
        for fences in self._fences:
            fences.close()
        self._memory.close()

    def _fences_of(self, guest: ModelGuest) -> Fences:
        """Arrays of the right size: a state that was changed may ask for another machine."""
        for fences in self._fences:
            if fences.fit(guest):
                return fences
        self._fences.append(Fences(guest))
        return self._fences[-1]

    def _meddle(self, count: int) -> None:
        self._attacker.meddle(self._memory.words, count)
        self._counted["words"] += count

    def _run_on(self, guest: ModelGuest, strides: int) -> None:
        self._fences_of(guest).enclose(guest)
        if self._attacker.chance(0.8):
            guest.start_tracking()
        for _ in range(strides):
            self._meddle(self._attacker.upto(self._attacker.either(_MOST_WORDS)))
            try:
                self._stride(guest)
                self._counted["ran on"] += 1
            except GuestCrashed:
                self._counted["crashed"] += 1
                # Worse than any guest can be: its kernel goes on as if nothing had been.
                guest.machine.core["vcpu"]["out_of_memory"] = 0
                if self._attacker.chance(0.5):
                    self._memory.words[:] = self._template.words

    def _stride(self, guest: ModelGuest) -> None:
        attacker, logging = self._attacker, bool(guest.machine.core["log"]["enabled"][0])
        if logging and attacker.chance(0.5):
            dirty = log_dirty.frames_of(guest.clean().dirty)
            if guest.parts.clearer is not None:
                guest.clear_log(dirty)
            if guest.parts.learner is not None:
                guest.note_sent(dirty, np.arange(len(dirty)) % 2 == 0)
        guest.execute(attacker.program(30))
        if attacker.chance(0.3):
            guest.run_accesses(200)
        if logging and attacker.chance(0.2):
            guest.peek()
        if attacker.chance(0.1):
            guest.stop_tracking()


def _check_line(refusal: str) -> None:
    assert refusal.isprintable(), refusal
    assert len(refusal) < 500, refusal


@contextmanager
def _no_hang() -> Iterator[None]:
    faulthandler.dump_traceback_later(_HANGS_S, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def main() -> None:
    """Attack, and print the figures as JSON."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seed, words, seconds = (int(argument) for argument in sys.argv[1:])
    counted: Counter[str] = Counter()
    others = OtherGuests(2, 512)
    known, began = list(templates()), time.monotonic()
    lap = 0
    while True:
        for number, template in enumerate(known):
            if lap and (counted["words"] >= words or time.monotonic() - began > seconds):
                others.check()
                print(json.dumps({**counted, "seconds": round(time.monotonic() - began, 1)}))
                return
            with _no_hang():
                attacks = Attacks(template, (seed << 20 | lap) << 8 | number, counted)
                for _ in range(_ATTACKS_AT_A_TIME if lap else 2):
                    attacks.arriving()
                    attacks.running()
                    attacks.check(others)
                attacks.close()
        others.check()
        lap += 1


if __name__ == "__main__":
    main()
