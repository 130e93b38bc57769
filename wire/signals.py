"""Which signals ask a process of ours to stop."""

from __future__ import annotations

import signal


def stop_signals() -> tuple[signal.Signals, ...]:
    """SIGTERM always; SIGINT unless the process was started with it ignored.

    A shell starts what a script runs in the background so: Ctrl-C in that terminal is then meant
    for others.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return (signal.SIGTERM,)
    return (signal.SIGTERM, signal.SIGINT)
