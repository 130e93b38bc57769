"""Targets that are broken on purpose."""

from __future__ import annotations

import ctypes
import time

from paging_core.errors import BadOption
from tests.fuzz.refusals import refusals

_LETTER = b"b"


def raises(data: bytes) -> None:
    """Refuses almost everything, as it may."""
    with refusals():
        if data[:1] == _LETTER:
            raise KeyError(data)
        raise BadOption("that is no bug")


def ends(data: bytes) -> None:
    """As a kernel would that leaves its guest."""
    if data[:1] == _LETTER:
        ctypes.string_at(0)


def hangs(data: bytes) -> None:
    """For ever, and without holding the interpreter."""
    while data[:1] == _LETTER:
        time.sleep(0.1)


def takes(data: bytes) -> None:
    """More than a process may, for as long as it takes to be noticed."""
    if data[:1] == _LETTER:
        taken = bytearray(512 << 20)
        for at in range(0, len(taken), 4096):
            taken[at] = 1
        time.sleep(10)
