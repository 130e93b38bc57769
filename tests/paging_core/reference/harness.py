"""Driving a model guest step by step, beside the reference models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from paging_core import log_dirty
from paging_core.config import GuestConfig, GuestTables, MemoryFill, TrackerConfig
from paging_core.guest import Cleaned
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from paging_core.workloads import ops
from paging_core.workloads.ops import Ops
from tests.paging_core.reference.guest import ReferenceGuest
from tests.paging_core.reference.programs import Act, Op, Program, Step, as_ops
from tests.paging_core.reference.walker import Walker

ZERO_PAGE = bytes(4096)
ZERO_FRAME = 0
"""What Linux maps where a fresh page is only read; nobody ever writes it."""
Words = npt.NDArray[np.int64]


class Silent:
    """A workload that does nothing: the tests say what the guest executes."""

    spec = "silent"

    def setup(self) -> Ops:
        return as_ops([Op(ops.IDLE)])

    def fill(self, position: int, operations: Ops) -> None:
        del position
        operations[:] = as_ops([Op(ops.IDLE, value=1)])


def boot(
    tracker: TrackerConfig,
    n_frames: int = 512,
    *,
    fill: MemoryFill = MemoryFill.RANDOM,
    memory: GuestMemory | None = None,
    tables: GuestTables = GuestTables.LINUX,
) -> ModelGuest:
    """A guest whose free memory is full of junk, so that a page left uncleared shows."""
    config = GuestConfig(
        n_frames * 4096, tracker, workload="silent", fill=fill, seed=7, guest_tables=tables
    )
    return ModelGuest.boot(config, memory, Silent())


def move(guest: ModelGuest) -> ModelGuest:
    """The guest on another host: copied memory, its own state, nothing else."""
    memory = GuestMemory(guest.n_frames)
    memory.words[:] = guest.memory.words
    return ModelGuest.resume(memory, guest.state(), Silent())


def logging(guest: ModelGuest) -> bool:
    """Whether the guest's writes are being logged now."""
    return bool(guest.machine.core["log"]["enabled"][0])


def registers(guest: ModelGuest) -> dict[str, Any]:
    """What the guest keeps outside its memory, as its own state says it."""
    vcpu: dict[str, Any] = json.loads(guest.architectural_state())["vcpu"]
    return vcpu


def get_and_clear(guest: ModelGuest) -> Cleaned:
    """Get and clear, whatever the policy: one that defers is told to clear what it reported."""
    cleaned = guest.clean()
    if guest.parts.clearer is not None:
        guest.clear_log(log_dirty.frames_of(cleaned.dirty))
    return cleaned


def act(guest: ModelGuest, what: Act) -> Cleaned | None:
    """Do what the hypervisor should, as far as it can be done now."""
    if what is Act.START and not logging(guest):
        guest.start_tracking()
    elif what is Act.CLEAN and logging(guest):
        return get_and_clear(guest)
    elif what is Act.PEEK and logging(guest):
        guest.peek()
    elif what is Act.STOP:
        guest.stop_tracking()
    return None


def take(guest: ModelGuest, step: Step) -> None:
    """Take one step of a program."""
    if isinstance(step, Act):
        act(guest, step)
    else:
        guest.execute(step.array())


def run(guest: ModelGuest, program: Program) -> None:
    """Take all steps of a program."""
    for step in program:
        take(guest, step)


def reference_of(program: Program) -> ReferenceGuest:
    """The reference guest after the operations of a program."""
    reference = ReferenceGuest()
    for step in program:
        if isinstance(step, Op):
            reference.step(step.kind, step.address, step.value, step.words)
    return reference


def roots(guest: ModelGuest) -> dict[int, int]:
    """L4 table of every process that lives."""
    return {process: root for process, root in enumerate(registers(guest)["roots"]) if root}


def walker(guest: ModelGuest, process: int | None = None) -> Walker:
    """Reads the tables of a process (the running one)."""
    cr3 = registers(guest)["cr3"] if process is None else roots(guest)[process]
    return Walker(guest.memory.words, cr3)


def content(guest: ModelGuest, process: int) -> dict[int, bytes]:
    """Every mapped user page of a process, found through its tables in guest memory."""
    leaves = walker(guest, process).leaves()
    return {va: guest.memory.words[leaf.gfn].tobytes() for va, leaf in leaves.items()}


def wrong_pages(guest: ModelGuest, reference: ReferenceGuest) -> list[str]:
    """Pages whose content is not what the program must see; an absent page reads as zeros."""
    wrong = []
    if set(roots(guest)) != set(reference.processes):
        return [f"processes {set(roots(guest))}, expected {set(reference.processes)}"]
    for process in reference.processes:
        found, expected = content(guest, process), reference.content(process)
        wrong += [
            f"process {process} page {va >> 12:#x}"
            for va in sorted(found.keys() | expected.keys())
            if found.get(va, ZERO_PAGE) != expected.get(va, ZERO_PAGE)
        ]
    return wrong


def dirty_now(guest: ModelGuest) -> set[int]:
    """What a peek says is dirty."""
    return set(log_dirty.frames_of(guest.peek()).tolist())


def reachable(guest: ModelGuest) -> set[int]:
    """Every frame that some process's tables name, the tables included, the zero page not."""
    found: set[int] = set()
    for process in roots(guest):
        view = walker(guest, process)
        found |= {table.gfn for table in view.tables(below_va=1 << 47)}
        found |= {leaf.gfn for leaf in view.leaves().values()}
    return found - {ZERO_FRAME}


def written_by(guest: ModelGuest, op: Op) -> set[int]:
    """Execute one operation; the frames that it wrote, known without any tracker.

    A frame was written if its bytes changed, if a user store went to it (maybe silently), or
    if the guest's kernel took it into use, for it clears or fills what it takes.
    """
    before, used_before = guest.memory.words.copy(), reachable(guest)
    guest.execute(op.array())
    changed = np.flatnonzero((guest.memory.words != before).any(axis=1)).tolist()
    written = set(changed) | (reachable(guest) - used_before)
    if op.kind in {ops.WRITE, ops.REWRITE}:
        leaf = walker(guest).translate(op.address)
        assert leaf is not None
        written.add(leaf.gfn)
    return written


def operations(program: Program) -> Iterator[Op]:
    """The guest's own steps of a program."""
    return (step for step in program if isinstance(step, Op))
