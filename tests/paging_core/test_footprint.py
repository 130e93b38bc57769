"""What a set-up takes is foretold exactly, and refused before the guest has begun."""

from __future__ import annotations

import pytest

from paging_core.config import GuestConfig
from paging_core.errors import BadOption, GuestOutOfMemory
from paging_core.footprint import frames_mapped, memory_for
from paging_core.model_guest import ModelGuest
from paging_core.workloads.catalog import describe_workloads, make_workload

MIB = 2**20
SPECS = [
    "uniform:wss=4KiB",
    "uniform:wss=3MiB",
    "uniform:wss=4MiB,huge=1",
    "uniform:wss=5MiB,init=0",
    "churn:wss=2MiB",
    "idle",
]


def free_frames(guest: ModelGuest) -> int:
    return int(guest.machine.core["vcpu"]["free_frames"][0])


@pytest.mark.parametrize("spec", SPECS)
def test_it_is_what_the_guests_kernel_takes(spec: str) -> None:
    idle = ModelGuest.boot(GuestConfig(16 * MIB, workload="idle"))
    guest = ModelGuest.boot(GuestConfig(16 * MIB, workload=spec))
    assert frames_mapped(make_workload(spec, 0).setup()) == free_frames(idle) - free_frames(guest)


@pytest.mark.parametrize("wss_pages", [100, 239, 240, 241, 242, 253, 254, 500, 509])
def test_the_memory_that_is_suggested_is_enough(wss_pages: int) -> None:
    spec = f"uniform:wss={wss_pages * 4}KiB"
    frames = frames_mapped(make_workload(spec, 0).setup())
    enough = memory_for(frames)
    ModelGuest.boot(GuestConfig(enough, workload=spec))
    try:
        ModelGuest.boot(GuestConfig(MIB, workload=spec))
    except (BadOption, GuestOutOfMemory) as error:
        assert f"use --memory {enough // MIB}MiB or " in str(error)  # noqa: PT017
        assert enough > MIB


def test_what_does_not_fit_says_what_it_needs() -> None:
    with pytest.raises(GuestOutOfMemory) as caught:
        ModelGuest.boot(GuestConfig(32 * MIB, workload="uniform:wss=32764KiB"))
    assert str(caught.value) == (
        "workload uniform needs 32.1 MiB with its page tables, and a guest of 32.0 MiB has "
        "32.0 MiB free; use --memory 64MiB or more"
    )


@pytest.mark.parametrize("name", ["zipf", "uniform", "churn"])
def test_what_can_never_fit_is_refused_before_anything_is_made_for_it(name: str) -> None:
    with pytest.raises(BadOption, match=r"64\.0 MiB, too much for a guest of 32\.0 MiB"):
        ModelGuest.boot(GuestConfig(32 * MIB, workload=f"{name}:wss=64MiB"))


@pytest.mark.parametrize("name", [info.name for info in describe_workloads()])
def test_every_workload_by_default_fits_a_small_guest(name: str) -> None:
    ModelGuest.boot(GuestConfig(64 * MIB, workload=name)).run_accesses(1000)
