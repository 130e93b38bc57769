"""KVM's own counters, by KVM_GET_STATS_FD: names and places once, values whenever asked.

header      where names and values lie
descriptors name, offset and size of each counter
values      unsigned words, all of them in one read
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

import numpy as np

from guests.kvm import abi
from guests.kvm.device import request


class Counters:
    """The counters of a machine or of a vCPU that are one word each."""

    def __init__(self, descriptor: int) -> None:
        """Ask for the names.

        Args:
            descriptor: of the machine or the vCPU.

        Raises:
            OSError: this KVM has none.
        """
        self._file = request(descriptor, abi.KVM_GET_STATS_FD)
        header_bytes = os.pread(self._file, ctypes.sizeof(abi.StatsHeader), 0)
        header = abi.StatsHeader.from_buffer_copy(header_bytes)
        self._places = _places(self._file, header)
        self._data_offset = int(header.data_offset)
        self._words = 1 + max(self._places.values(), default=0)

    @property
    def names(self) -> frozenset[str]:
        """Of the counters that there are."""
        return frozenset(self._places)

    def read(self, names: Iterable[str]) -> dict[str, int]:
        """Counters by name; 0 for one that this kernel does not have."""
        values = np.frombuffer(os.pread(self._file, self._words * 8, self._data_offset), np.uint64)
        return {
            name: int(values[self._places[name]]) if name in self._places else 0 for name in names
        }

    def close(self) -> None:
        """Close it."""
        os.close(self._file)


def _places(file: int, header: abi.StatsHeader) -> dict[str, int]:
    """Which word each counter is; histograms, of more words than one, are left out."""
    size = ctypes.sizeof(abi.StatsDescription)
    stride = size + int(header.name_size)
    text = os.pread(file, stride * int(header.num_desc), int(header.desc_offset))
    places = {}
    for first in range(0, len(text), stride):
        one = abi.StatsDescription.from_buffer_copy(text, first)
        name = text[first + size : first + stride].split(b"\0", 1)[0].decode()
        if one.size == 1:
            places[name] = one.offset // 8
    return places
