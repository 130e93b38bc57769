"""The guest's program: its bytes are its source's, and it does what its source says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from guests.kvm import program
from guests.kvm.program import Control, Report
from guests.kvm.runner import Runner
from paging_core.errors import GuestCrashed
from paging_core.memory import GuestMemory
from paging_core.workloads.ops import FORK, IDLE, MMAP, READ, REWRITE, WRITE
from tests.guests.kvm.small import FIRST_VA, PAGES, ROOT, SmallMachine, ops_of

_SOURCE = Path(program.__file__).with_name("program.S")
_WORDS = 1 << 64


@pytest.mark.skipif(
    shutil.which("as") is None or shutil.which("objcopy") is None, reason="no binutils here"
)
def test_bytes_are_what_the_source_assembles_to(tmp_path: Path) -> None:
    made, binary = tmp_path / "program.o", tmp_path / "program.bin"
    subprocess.run(["as", "--64", _SOURCE, "-o", made], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", made, binary], check=True)
    assert binary.read_bytes() == program.CODE


def _interpreted(rows: list[tuple[int, int, int, int]]) -> tuple[dict[int, int], int]:
    """What the operations do to memory, and the sum, in plain Python."""
    memory: dict[int, int] = {}
    total = 0
    for kind, address, value, words in rows:
        room = (4096 - address % 4096) // 8
        if kind == READ:
            rotated = (total << 1 | total >> 63) % _WORDS
            total = (rotated + memory.get(address, 0)) % _WORDS
        if kind == WRITE:
            for i in range(max(1, min(words, room))):
                memory[address + 8 * i] = (value + i) % _WORDS
    return memory, total


def _random_rows(seed: int, count: int) -> list[tuple[int, int, int, int]]:
    draw = np.random.default_rng(seed)
    kinds = draw.choice([READ, WRITE, WRITE, REWRITE, IDLE], count).tolist()
    words = draw.choice([0, 1, 2, 8, 600], count).tolist()
    places = (FIRST_VA + draw.integers(0, (PAGES - 1) * 512, count) * 8).tolist()
    values = draw.integers(0, 1 << 62, count).tolist()
    return list(zip(kinds, places, values, words, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_it_does_what_plain_python_does(small: SmallMachine, seed: int) -> None:
    rows = _random_rows(seed, 3000)
    small.runner.execute(ops_of(*rows))
    expected, total = _interpreted(rows)
    pages = np.zeros((PAGES - 1, 512), np.uint64)
    for address, value in expected.items():
        pages[(address - FIRST_VA) // 4096, address % 4096 // 8] = value
    assert len(expected) > 10_000
    assert (small.memory.words[16:-1].view(np.uint64) == pages).all()
    assert small.runner.steps == len(rows)
    assert small.runner.sum % _WORDS == total


def test_a_lost_store_is_found_at_the_next_touch(small: SmallMachine) -> None:
    va = FIRST_VA + 5 * 4096 + 16
    small.runner.execute(ops_of((WRITE, va, 7, 1)))
    small.runner.execute(ops_of((READ, va + 64, 0, 0)))
    small.page(5)[2] = 6
    with pytest.raises(GuestCrashed, match="a write of it was lost"):
        small.runner.execute(ops_of((READ, va + 64, 0, 0)))


def test_what_takes_a_kernel_is_refused_before_anything_runs(small: SmallMachine) -> None:
    for kind in (MMAP, FORK):
        with pytest.raises(GuestCrashed, match=f"operation {kind} .* guest kernel"):
            small.runner.execute(ops_of((WRITE, FIRST_VA, 7, 1), (kind, FIRST_VA, 1, 0)))
    assert small.page(0)[0] == 0


def test_a_list_that_was_tampered_with_crashes_the_guest(small: SmallMachine) -> None:
    small.runner.device.give(ops_of((MMAP, FIRST_VA, 1, 0)))
    with pytest.raises(GuestCrashed, match="an operation that there is not"):
        small.runner.run()


def test_it_stops_before_the_next_operation_and_goes_on_there(small: SmallMachine) -> None:
    device = small.runner.device
    device.give(ops_of((WRITE, FIRST_VA, 7, 1)))
    device.control[Control.STOP] = 1
    assert small.runner.run() is Report.STOPPED
    assert (small.runner.steps, small.page(0)[0]) == (0, 0)
    device.control[Control.STOP] = 0
    assert small.runner.run() is Report.EMPTY
    assert (small.runner.steps, small.page(0)[0]) == (1, 7)


@pytest.mark.parametrize("va", [FIRST_VA + PAGES * 4096, 1 << 41, 1 << 63])
def test_an_address_that_is_not_mapped_crashes_the_guest_alone(
    small: SmallMachine, va: int
) -> None:
    signed = va - _WORDS if va >= 1 << 63 else va
    with pytest.raises(GuestCrashed, match="left its program"):
        small.runner.execute(ops_of((WRITE, signed, 7, 1)))


def test_a_mapping_of_nothing_crashes_the_guest_alone(small: SmallMachine) -> None:
    small.memory.words[4, 9] = 1 << 40 | program.OWN_FLAGS
    with pytest.raises(GuestCrashed, match="KVM_EXIT_MMIO at guest address 0x10000000000"):
        small.runner.execute(ops_of((WRITE, FIRST_VA + 9 * 4096, 7, 1)))


@pytest.mark.usefixtures("can_virtualize")
def test_addresses_of_the_program_that_are_taken_are_refused() -> None:
    memory = GuestMemory(8)
    memory.words[ROOT, program.OWN_ENTRY] = 2 << 12 | program.OWN_FLAGS
    with pytest.raises(GuestCrashed, match="at the addresses of its program"):
        Runner(memory, [ROOT])
    memory.close()


@pytest.mark.usefixtures("can_virtualize")
def test_it_leaves_nothing_open() -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    for _ in range(5):
        machine = SmallMachine()
        machine.runner.execute(ops_of((WRITE, FIRST_VA, 7, 1)))
        machine.close()
    assert sorted(Path("/proc/self/fd").iterdir()) == before
