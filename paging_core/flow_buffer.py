"""Where kernels note the flow of faults, and who empties it when it is full."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from paging_core.flow import FLOW_DTYPE, FlowRows
from paging_core.kernels.state import Records

BUFFER_ROWS = 1 << 16
"""1.5 MiB: handing out takes a call into Python, so not too seldom and not too often."""

_FullCall = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)


class FlowBuffer:
    """A buffer that a machine's core points to as long as this object is open.

    Kernels run without the interpreter lock and cannot raise. What the sink raises when it
    is called from one is kept, and raised by `check` once the kernel has returned; until
    then events are dropped.
    """

    def __init__(self, core: Records, sink: Callable[[FlowRows], Any], rows: int = BUFFER_ROWS):
        """Note from now on.

        Args:
            core: the machine's core, an array of one record; must outlive this object.
            sink: gets the events, in order; must not keep the array.
            rows: events that fit.
        """
        self._core = core
        self._sink = sink
        self._rows: FlowRows = np.zeros(rows, FLOW_DTYPE)
        self._call = _FullCall(self._on_full)
        self._failure: BaseException | None = None
        core["flow_at"] = self._rows.ctypes.data
        core["flow_full_at"] = ctypes.cast(self._call, ctypes.c_void_p).value
        core["flow"]["used"] = 0
        core["flow"]["rows"] = rows

    def hand_out(self) -> None:
        """Give the sink what was noted since the last time."""
        used = int(self._core["flow"]["used"][0])
        self._core["flow"]["used"] = 0
        if used:
            self._sink(self._rows[:used])

    def check(self) -> None:
        """Raise what the sink raised while a kernel ran."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def close(self) -> None:
        """Hand out the rest; nothing is noted any more."""
        self._core["flow"]["rows"] = 0
        self.hand_out()
        self.check()

    def _on_full(self, _core: int, _a: int, _b: int, _c: int) -> int:
        try:
            self.hand_out()
        except BaseException as failure:  # noqa: BLE001 - raised again by `check`
            self._failure = self._failure or failure
        return 0
