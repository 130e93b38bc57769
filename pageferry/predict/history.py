"""AVG and HIST: the models of Akoush et al., from a log of what a guest wrote.

S. Akoush, R. Sohan, A. Rice, A. W. Moore, A. Hopper: "Predicting the Performance of Virtual
Machine Migration", MASCOTS 2010. Its abstract names two simulation models that predict
migration times with an accuracy of 90 %; the paper's text could not be had when this was
written, so the two are built from how the literature describes them:

AVG   the guest dirties pages at a constant rate, the average one. What a round of d seconds
      leaves dirty is rate × d, at most all memory.
HIST  the guest dirties in each window of time what it dirtied in that window of an earlier run
      of the same workload. What a round leaves dirty is the union of its windows.

Adapted here: the rounds are those of our policies and not of Xen alone; a page costs what a
sample of memory costs after encoding, for their hosts sent it whole and these do not; there is
no constant for setting up and tearing down, for the virtual clock charges none. The rate is
that of one pass over memory, at most a second of it (QEMU's calc-dirty-rate measures for a
second); the paper's own interval is not known to us. The log is made by the model guest
untracked: neither model knows that tracking slows the guest down.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pageferry.predict.prediction import Prediction
from pageferry.predict.simulation import Dirtied, Setting, simulate
from paging_core.model_guest import ModelGuest
from paging_core.units import NS_PER_S

WINDOWS_PER_PASS = 256
"""Windows in the time that one pass over memory takes."""
MIN_WINDOW_NS = 100_000
AVERAGED_OVER_NS = NS_PER_S


class WriteLog:
    """Which frames a guest writes in each window; the guest runs as far as it is asked about."""

    def __init__(self, guest: ModelGuest, window_ns: int) -> None:
        """Log from the guest's present on.

        Args:
            guest: untracked; it must not be run elsewhere.
            window_ns: length of a window.
        """
        self._guest = guest
        self._window_ns = window_ns
        self._started_ns = guest.time_ns
        self._windows: list[npt.NDArray[np.int32]] = []
        self._written = guest.machine.frames["written"]
        self._written[:] = 0

    @property
    def logged_ns(self) -> int:
        """How long a time it covers."""
        return len(self._windows) * self._window_ns

    def frames_written(self, from_ns: int, to_ns: int) -> int:
        """Distinct frames written in the windows that a time span touches.

        Raises:
            GuestCrashed: the guest's kernel gave up before the span ended.
        """
        first, end = from_ns // self._window_ns, -(-to_ns // self._window_ns)
        while len(self._windows) < end:
            self._log_window()
        touched = np.zeros(self._guest.n_frames, np.bool_)
        for gfns in self._windows[first:end]:
            touched[gfns] = True
        return int(np.count_nonzero(touched))

    def _log_window(self) -> None:
        self._guest.run(self._started_ns + self.logged_ns + self._window_ns)
        self._windows.append(np.flatnonzero(self._written).astype(np.int32))
        self._written[:] = 0


def window_ns(setting: Setting) -> int:
    """A window short against a pass over memory."""
    return max(MIN_WINDOW_NS, setting.carry_ns(setting.memory_frames) // WINDOWS_PER_PASS)


def at_rate(frames_per_s: float) -> Dirtied:
    """AVG: so many frames per second, whatever the time."""
    return lambda from_ns, to_ns: round(frames_per_s * (to_ns - from_ns) / NS_PER_S)


def avg(setting: Setting, log: WriteLog) -> Prediction:
    """The AVG model; see above."""
    span_ns = max(1, min(AVERAGED_OVER_NS, setting.carry_ns(setting.memory_frames)))
    rate = log.frames_written(0, span_ns) * NS_PER_S / span_ns
    return simulate("AVG", setting, at_rate(rate))


def hist(setting: Setting, log: WriteLog) -> Prediction:
    """The HIST model; see above."""
    return simulate("HIST", setting, log.frames_written)
