"""Recording the flow of one migration: what the guest notes, what the engine sends.

Writing happens in a thread of its own. A bounded queue lies between, so a slow disk slows the
run down and never fills memory.
"""

from __future__ import annotations

from pathlib import Path
from queue import Queue
from threading import Thread

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from paging_core.errors import InvariantViolation, PageferryError, forget_frames
from paging_core.exhaustion import ran_out
from paging_core.flow import FlowKind, FlowRows
from paging_core.units import PS_PER_NS
from source_host.watch.flow_files import (
    DETAILS,
    EVENT_KINDS,
    MOMENTS,
    SEND_KINDS,
    Column,
    FlowFiles,
    names,
)
from wire.batch import Batch
from wire.runs import FrameKind

_QUEUED = 32
"""Pieces between the migration and the disk; the largest have 1.5 MiB."""
_SHADOW_DETAIL = DETAILS.index("l1") - 1
"""Kinds of shadow page count from 1."""
_NO_DETAIL = DETAILS.index("none")
_SHADOWS = (FlowKind.SHADOW_BUILT, FlowKind.SHADOW_DROPPED)

_Piece = tuple[str, list[Column]]


class FlowRecorder:
    """Writes a flow; thread-safe."""

    def __init__(self, directory: Path) -> None:
        """Begin a flow.

        Raises:
            BadOption, LimitExceeded: see `FlowFiles`.
        """
        self._files = FlowFiles(directory)
        self._queue: Queue[_Piece | None] = Queue(_QUEUED)
        self._failure: PageferryError | None = None
        self._thread = Thread(target=self._write, name="flow", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._files.close()
            raise

    def events(self, rows: FlowRows) -> None:
        """What a guest noted; for `FlowSource.note_flow`."""
        kind = rows["kind"]
        self._put(
            "events",
            [
                rows["time_ps"] // PS_PER_NS,
                names(kind, EVENT_KINDS),
                names(_details(kind, rows["detail"]), DETAILS),
                rows["gfn"].copy(),
                rows["leader"].copy(),
                rows["space"].copy(),
            ],
        )

    def sent(
        self, time_ns: int, batch: Batch, changed: npt.NDArray[np.bool_], wire_bytes: int
    ) -> None:
        """A message was put on the link. Its bytes are shared out among its data frames.

        Args:
            time_ns: when its frames were read from guest memory.
            batch: the frames, and what was said of each.
            changed: whether each holds other content than what was last sent of it.
            wire_bytes: of the whole message.
        """
        n = batch.runs.n_frames
        if n == 0:
            return
        kinds = batch.runs.kinds()
        data = kinds == FrameKind.DATA
        payers = data if data.any() else np.ones(n, np.bool_)
        share = np.where(payers, wire_bytes / np.count_nonzero(payers), 0)
        self._put(
            "sends",
            [
                np.full(n, time_ns, np.int64),
                np.full(n, batch.round, np.int32),
                batch.runs.gfns().astype(np.int32),
                names(kinds, SEND_KINDS),
                changed,
                share.astype(np.float32),
            ],
        )

    def moment(
        self,
        kind: str,
        time_ns: int,
        round_number: int,
        frames: int = 0,
        falsely_dirty: int | None = 0,
    ) -> None:
        """Something happened to the migration as a whole (`MOMENTS`)."""
        self._put(
            "moments",
            [
                np.array([time_ns], np.int64),
                names(np.array([MOMENTS.index(kind)]), MOMENTS),
                np.array([round_number], np.int32),
                np.array([frames], np.int64),
                pa.array([falsely_dirty], pa.int64()),
            ],
        )

    def finish(self, outcome: str) -> None:
        """Write the rest; the flow is whole after this.

        Raises:
            PageferryError: it could not be written.
        """
        self._end()
        try:
            if self._failure is None:
                self._files.finish({"outcome": outcome})
        finally:
            self._files.close()
        self._check()

    def stop(self) -> None:
        """Write no more; without `finish` the flow stays incomplete."""
        self._end()
        self._files.close()

    def _end(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _put(self, table: str, columns: list[Column]) -> None:
        self._check()
        self._queue.put((table, columns))

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _write(self) -> None:
        while (piece := self._queue.get()) is not None:
            if self._failure is None:
                try:
                    self._files.append(*piece)
                except PageferryError as error:
                    self._failure = forget_frames(error)
                except Exception as error:  # noqa: BLE001 - else the queue fills and all wait
                    self._failure = ran_out(error) or InvariantViolation(
                        f"writing the flow failed: {error!r}"
                    )


def _details(kind: npt.NDArray[np.uint8], detail: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """Codes of `DETAILS`: of a fault its kind, of a shadow page its level."""
    codes = np.full(len(kind), _NO_DETAIL, np.int8)
    faults = kind == FlowKind.FAULT
    codes[faults] = detail[faults]
    shadows = np.isin(kind, _SHADOWS)
    codes[shadows] = detail[shadows] + _SHADOW_DETAIL
    return codes
