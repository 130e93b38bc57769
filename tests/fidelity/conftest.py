"""Fidelity is tested where this machine runs virtual machines on KVM's shadow MMU."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from guests.kvm.device import check_machine
from guests.kvm.errors import CannotVirtualize


@cache
def _why_not() -> str:
    """Why not; empty if it does."""
    try:
        check_machine()
    except CannotVirtualize as error:
        return str(error)
    for module in ("kvm_intel/parameters/ept", "kvm_amd/parameters/npt"):
        switch = Path("/sys/module") / module
        if switch.exists() and switch.read_text().strip() in {"Y", "1"}:
            return (
                "KVM has hardware paging here, so nothing is shadowed; "
                f"load its module with {switch.name}=0 to hold the model to it"
            )
    return ""


@pytest.fixture(autouse=True)
def can_shadow() -> None:
    if why := _why_not():
        pytest.skip(why)
