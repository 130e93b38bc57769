"""Whether this machine lets a process track its own writes."""

from __future__ import annotations

from functools import cache

import pytest

from guests.linux.userfaultfd import SYNCHRONOUS, check_kernel
from paging_core.errors import CannotTrack


@cache
def why_not() -> str:
    """Why not; empty if it does."""
    try:
        check_kernel(SYNCHRONOUS)
    except CannotTrack as error:
        return str(error)
    return ""


@pytest.fixture
def can_track() -> None:
    if why := why_not():
        pytest.skip(why)
