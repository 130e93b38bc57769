"""The flow of faults: every event of the tracker with its virtual time, for analysis.

The maintainers' advice of 2009: record every fixup fault and every page sent, and see whether
the flow makes sense. The guest notes its half here; the source host adds what it sends.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

FlowRows = npt.NDArray[np.void]
"""Events as the guest notes them, in order: a one-dimensional array of `FLOW_DTYPE`."""

FLOW_DTYPE = np.dtype(
    [
        ("time_ps", np.int64),
        ("gfn", np.int32),
        ("leader", np.int32),
        ("kind", np.uint8),
        ("detail", np.uint8),
        ("space", np.uint8),
        ("_", np.uint8),
    ],
    align=True,
)
"""One event, 24 bytes: guest time in picoseconds, what happened (`FlowKind`), to which frame;
`leader` and `detail` as the kind says; `space` is the process that ran."""


class FlowKind(IntEnum):
    """What happened."""

    FAULT = 0
    """An exit to the hypervisor; `detail` is its `paging_core.events.Fault`."""
    FIXUP = 1
    """The fault just noted marked its frame dirty and made it writable."""
    OPENED = 2
    """A frame became writable and dirty with the group of `leader`, unwritten."""
    FIRST_WRITE = 3
    """The guest wrote an opened frame for the first time since."""
    LOGGED = 4
    """A frame became dirty without a fixup: by PML, or by a write of the hypervisor's."""
    SHADOW_BUILT = 5
    """A shadow page was built for table `gfn`; `detail` says as what: 1 L1,
    2 L1 of a superpage, 3 L2, 4 L3, 5 L4."""
    SHADOW_DROPPED = 6
    """A shadow page of table `gfn` was torn down; `detail` as above."""


class FlowSource(Protocol):
    """A guest that can tell the flow of its faults."""

    def note_flow(self, sink: Callable[[FlowRows], Any] | None) -> None:
        """Hand every event from now on to `sink`, in order and in large pieces.

        Args:
            sink: must not keep the array, which is used again; None ends it, after the
                last events were handed out.
        """
