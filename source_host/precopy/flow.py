"""Observers of every frame that is sent; by default none."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from paging_core.flow import FlowRows
from wire.batch import Batch


class Flow(Protocol):
    """Takes down the flow of one migration; what cannot be taken down ends it."""

    def events(self, rows: FlowRows) -> None:
        """What the guest noted of its faults."""

    def sent(
        self, time_ns: int, batch: Batch, changed: npt.NDArray[np.bool_], wire_bytes: int
    ) -> None:
        """A message was put on the link.

        Args:
            time_ns: when its frames were read from guest memory.
            batch: the frames, and what was said of each.
            changed: whether each holds other content than what was last sent of it.
            wire_bytes: of the whole message.
        """

    def moment(
        self,
        kind: str,
        time_ns: int,
        round_number: int,
        frames: int = 0,
        falsely_dirty: int | None = 0,
    ) -> None:
        """Something happened to the migration as a whole.

        Args:
            kind: what.
            time_ns: when.
            round_number: within or after which round.
            frames: of what it was about.
            falsely_dirty: of those, frames that nobody had written; None where nobody knows.
        """

    def finish(self, outcome: str) -> None:
        """The migration ended."""


class _NoFlow:
    """Takes nothing down."""

    def events(self, rows: FlowRows) -> None:
        """Forget it."""

    def sent(
        self, time_ns: int, batch: Batch, changed: npt.NDArray[np.bool_], wire_bytes: int
    ) -> None:
        """Forget it."""

    def moment(
        self,
        kind: str,
        time_ns: int,
        round_number: int,
        frames: int = 0,
        falsely_dirty: int | None = 0,
    ) -> None:
        """Forget it."""

    def finish(self, outcome: str) -> None:
        """Nothing to finish."""


NO_FLOW: Flow = _NoFlow()
