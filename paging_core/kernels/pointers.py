"""Types of what compiled code indexes: pointers to integers, and arrays of records."""

from __future__ import annotations

from typing import Protocol, TypeVar

_Record_co = TypeVar("_Record_co", covariant=True)


class Ints(Protocol):
    """Integers behind a pointer, or an array of them: indexed, without bounds."""

    def __getitem__(self, at: int, /) -> int:
        """The integer at a place."""

    def __setitem__(self, at: int, value: int, /) -> None:
        """Store an integer at a place."""


class RecordArray(Protocol[_Record_co]):
    """An array of records, one-dimensional: `ops[i].kind`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its length, alone."""

    def __getitem__(self, at: int, /) -> _Record_co:
        """One record; its fields are those of the array's."""
