"""Whether this machine runs virtual machines for this user."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from guests.kvm.device import check_machine
from guests.kvm.errors import CannotVirtualize
from tests.guests.kvm.small import SmallMachine


@cache
def _why_not() -> str:
    """Why not; empty if it does."""
    try:
        check_machine()
    except CannotVirtualize as error:
        return str(error)
    return ""


@pytest.fixture
def can_virtualize() -> None:
    if why := _why_not():
        pytest.skip(why)


@pytest.fixture
def small(request: pytest.FixtureRequest) -> Iterator[SmallMachine]:
    request.getfixturevalue("can_virtualize")
    machine = SmallMachine()
    yield machine
    machine.close()
