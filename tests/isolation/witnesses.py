"""What must stay as it is, and what must never be seen, while a guest is attacked.

Compiled code follows raw addresses: numba checks no bounds there. So every array of the guest's
machine is moved to the end of a mapping of its own, with inaccessible addresses behind it, and
what lies before it holds a pattern. Other guests lie around, every word of them marked.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paging_core.kernels.state import ARRAYS
from paging_core.machine import Machine
from paging_core.memory import GuestMemory, Words
from paging_core.model_guest import ModelGuest

_SLACK = 0xA5
_MARK = 0x5EC2E7A1
"""The upper 32 bits of every word of another guest: no guest's own random words begin like that."""
_MARK_SHIFT = 32


class Fences:
    """The arrays of one machine after the other, where what runs over their ends is noticed."""

    def __init__(self, guest: ModelGuest) -> None:
        self._memories: list[GuestMemory] = []
        self._slack: list[npt.NDArray[np.uint8]] = []
        self._arrays = {name: self._place(guest, name) for name in ARRAYS if name != "memory"}

    def _place(self, guest: ModelGuest, name: str) -> npt.NDArray[np.generic]:
        like = getattr(guest.machine, name)
        memory = GuestMemory(-(-like.nbytes // 4096))
        self._memories.append(memory)
        flat = memory.frames.reshape(-1)
        slack = flat[: len(flat) - like.nbytes]
        slack[:] = _SLACK
        self._slack.append(slack)
        placed: npt.NDArray[np.generic] = flat[len(slack) :].view(like.dtype).reshape(like.shape)
        return placed

    def fit(self, guest: ModelGuest) -> bool:
        """Whether its arrays are as large as these."""
        machine = guest.machine
        return all(
            getattr(machine, name).shape == array.shape for name, array in self._arrays.items()
        )

    def enclose(self, guest: ModelGuest) -> None:
        """Let a guest of the same size run on these arrays from now on."""
        machine = guest.machine
        for name, array in self._arrays.items():
            array[...] = getattr(machine, name)
            machine.core[f"{name}_at"] = array.ctypes.data
        guest.machine = Machine(**{**machine._asdict(), **self._arrays})

    def check(self) -> None:
        """Nothing was written before an array (what is written behind one ends the process)."""
        assert all((slack == _SLACK).all() for slack in self._slack)

    def close(self) -> None:
        """Give their memory back."""
        for memory in self._memories:
            memory.close()


class OtherGuests:
    """Memory of guests that have nothing to do with it."""

    def __init__(self, count: int, n_frames: int) -> None:
        size = n_frames * 512
        self._expected = (_MARK << _MARK_SHIFT | np.arange(size)).reshape(n_frames, 512)
        self._memories = [GuestMemory(n_frames) for _ in range(count)]
        for memory in self._memories:
            memory.words[:] = self._expected

    def check(self) -> None:
        """Nobody wrote to them."""
        assert all((memory.words == self._expected).all() for memory in self._memories)

    def check_unseen(self, words: Words) -> None:
        """Nothing of them stands in the memory of the guest that was attacked."""
        assert not (words >> _MARK_SHIFT == _MARK).any()
