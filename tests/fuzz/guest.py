"""A guest that is handed over: its memory, its state, and what it goes on to do.

The input changes one that booted here, four bytes for each place: bytes of its own would hardly
ever get past the first look, and every byte of an input should matter.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from paging_core.boot import Layout
from paging_core.config import CleanPolicy, GuestConfig, Paging, TrackerConfig
from paging_core.errors import PageferryError
from paging_core.guest_state import decode_state
from paging_core.memory import GuestMemory, Words
from paging_core.model_guest import ModelGuest
from paging_core.workloads.catalog import workload_of
from tests.fuzz.refusals import refusals

MIB = 1 << 20
_OPS = 4000
_MOST_CHANGES = 64
_CHANGE = struct.Struct("<BHB")
_FRAMES = (0, 1, 5, 1023, 1024, 1025, 2**20, 2**31, 2**39, 2**40 - 1, 2**51)
"""Where entries may lead: into the guest, to its end, past it."""
_VALUES = (0, 1, -1, 2**31, 2**32 - 1, 2**62, 2**63, 1024, 1023, 64, 511, 512, 4096)
_CANARY = np.int64(0x5A5A5A5A5A5A5A5A)

CONFIGS = tuple(
    GuestConfig(4 * MIB, TrackerConfig(paging, clean, pml=pml), workload=load)
    for paging, clean, pml in (
        (Paging.SHADOW, CleanPolicy.BLOW, False),
        (Paging.SHADOW, CleanPolicy.WRITE_PROTECT, False),
        (Paging.HAP, CleanPolicy.LAZY, False),
        (Paging.HAP, CleanPolicy.EAGER, True),
    )
    for load in (
        "hotcold:wss=1MiB,write_rate=4M",
        "churn:wss=512KiB,region=128KiB,fork_every=300,children=2,write_rate=4M",
    )
)
"""Each with other kernels; the second load forks, copies on write and frees."""


Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Base:
    """A guest that ran for a while, as it would be handed over."""

    config: GuestConfig
    words: Words
    state: bytes
    tables: tuple[int, ...]
    """Frames that hold what kernels follow: tables, and the counts of frames."""
    entries: Places
    """Words of those frames that are not zero, counted through all of memory."""


class Change(NamedTuple):
    """A word of memory, or a number of the state, and what becomes of it."""

    how: int
    where: int
    what: int

    @property
    def kind(self) -> int:
        """0 a word of a table that is not zero, 1 any of a table, 2 any of memory, 3 the state."""
        return self.how & 3

    @property
    def later(self) -> bool:
        """Not on arrival: while it runs."""
        return bool(self.how & 4)

    def of(self, before: int, words: Words, entries: Places) -> int:
        """The new value, 64 bits with a sign."""
        if self.what < 64:
            return _signed(before ^ 1 << self.what)
        if self.what < 128:
            return int(words.flat[entries[(self.where + self.what * 7) % len(entries)]])
        if self.what < 192:
            return _signed(before & 0xFFF | _FRAMES[self.what % len(_FRAMES)] << 12)
        return _signed(_VALUES[self.what % len(_VALUES)])


def _signed(value: int) -> int:
    return int(np.array(value & (2**64 - 1), np.uint64).astype(np.int64))


@cache
def base(number: int) -> Base:
    """The guest of a configuration."""
    config = CONFIGS[number]
    with GuestMemory(config.n_frames) as memory:
        guest = ModelGuest.boot(config, memory)
        guest.run_accesses(3000)
        vcpu = guest.machine.core["vcpu"][0]
        tables = {*range(Layout(config.n_frames).first_frame), *vcpu["roots"].tolist()}
        words = memory.words.copy()
        for _level in range(3):
            tables |= _led_to(words[sorted(tables)], config.n_frames)
        theirs = np.array(sorted(tables))
        at, word = np.nonzero(words[theirs])
        return Base(config, words, guest.state(), tuple(theirs), theirs[at] * 512 + word)


def _led_to(entries: Words, n_frames: int) -> set[int]:
    frames = entries[entries & 1 != 0] >> 12
    return {int(gfn) for gfn in frames if 0 <= gfn < n_frames}


def state(data: bytes) -> None:
    """The state alone, as arbitrary bytes."""
    with refusals():
        decode_state(data)


def guest(data: bytes) -> None:
    """It is refused, ends as a guest, or runs; nothing outside of it changes, here or later."""
    chosen = base(data[0] % len(CONFIGS) if data else 0)
    changes = list(_changes(data[1:]))
    with (
        GuestMemory(256) as below,
        GuestMemory(chosen.config.n_frames) as memory,
        GuestMemory(256) as above,
    ):
        below.words[:] = above.words[:] = _CANARY
        memory.words[:] = chosen.words
        for change in changes:
            if not change.later:
                _apply(memory.words, chosen, change)
        with refusals():
            _run(memory, chosen, changes)
        for neighbour in (below, above):
            assert (neighbour.words == _CANARY).all(), "the memory of another guest changed"


def _run(memory: GuestMemory, chosen: Base, changes: list[Change]) -> None:
    resumed = ModelGuest.resume(memory, _state(chosen, changes), workload_of(chosen.config))
    resumed.run_accesses(_OPS)
    for change in changes:
        if change.later:
            _apply(memory.words, chosen, change)
    resumed.run_accesses(_OPS)
    resumed.start_tracking()
    resumed.run_accesses(_OPS)
    resumed.clean()
    resumed.run_accesses(_OPS)
    resumed.stop_tracking()
    try:
        resumed.state()
    except PageferryError as error:
        raise AssertionError(f"a guest that runs has no state: {error}") from error


def _changes(data: bytes) -> Iterator[Change]:
    for at in range(0, min(len(data), _MOST_CHANGES * _CHANGE.size), _CHANGE.size):
        yield Change(*_CHANGE.unpack(data[at : at + _CHANGE.size].ljust(_CHANGE.size, b"\0")))


def _apply(words: Words, chosen: Base, change: Change) -> None:
    """To a word of memory; the state is changed elsewhere."""
    match change.kind:
        case 0:
            at = int(chosen.entries[change.where % len(chosen.entries)])
        case 1:
            place = change.where * 37
            at = chosen.tables[place // 512 % len(chosen.tables)] * 512 + place % 512
        case 2:
            at = change.where * 4099 % words.size
        case _:
            return
    words.flat[at] = change.of(int(words.flat[at]), chosen.words, chosen.entries)


def _state(chosen: Base, changes: list[Change]) -> bytes:
    document: dict[str, Any] = json.loads(chosen.state)
    for change in changes:
        if change.kind == 3:
            _turn(document["vcpu"], change, chosen)
    return json.dumps(document).encode()


def _turn(registers: dict[str, Any], change: Change, chosen: Base) -> None:
    name = sorted(registers)[change.where % len(registers)]
    value = registers[name]
    if isinstance(value, list):
        at = (change.where >> 8) % len(value)
        value[at] = change.of(int(value[at]), chosen.words, chosen.entries)
    else:
        registers[name] = change.of(int(value), chosen.words, chosen.entries)
