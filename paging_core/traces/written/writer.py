"""Writing a trace of written pages, window by window: for recorders and importers, ours or yours.

    with WrittenPagesWriter(Path("vm.parquet")) as trace:
        trace.window(0, 10_000_000, written=np.array([3, 4, 9], np.uint64))
        trace.window(10_000_000, 20_000_000, written=np.zeros(0, np.uint64))  # nothing was written
        trace.finish(Recording(VM, memory_bytes=1 << 30, command="qemu-system-x86_64 …"))

Memory does not grow with the number of windows: rows are written in groups.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from paging_core.errors import BadTrace
from paging_core.traces.partial import PartialParquet
from paging_core.traces.written.schema import (
    CHANGED,
    METADATA_KEY,
    MOST_NS,
    NOT_MEASURED,
    SCHEMA,
    Description,
    Recording,
)

GROUP_ROWS = 1 << 17
"""Rows that are written, and later read, at a time; a large window makes several such groups."""
DEFAULT_ZSTD_LEVEL = 3
"""Quick, for a recorder must keep up; 19 makes files some tenths smaller."""

Pages = npt.NDArray[np.uint64]
"""Page numbers, one-dimensional, strictly ascending."""


class WrittenPagesWriter:
    """A trace under construction; use it in a ``with`` statement and `finish` it there.

    What was not finished is removed at the end, whatever ended it.
    """

    def __init__(self, path: Path, *, zstd_level: int = DEFAULT_ZSTD_LEVEL) -> None:
        """Begin in a file beside `path`, which is replaced in the end.

        Args:
            path: of the trace.
            zstd_level: 1 to 22.

        Raises:
            BadTrace: nothing can be written there.
        """
        self._rows: list[npt.NDArray[Any]] = []
        self._waiting = 0
        self._windows = 0
        self._end_ns = 0
        self._top = 0
        self._file = PartialParquet(
            path,
            SCHEMA,
            compression="zstd",
            compression_level=zstd_level,
            use_dictionary=["window_start_ns", "window_end_ns"],
            column_encoding={"page": "DELTA_BINARY_PACKED"},
            write_page_checksum=True,
            write_statistics=False,
        )

    def window(
        self,
        start_ns: int,
        end_ns: int,
        written: Pages,
        changed: npt.NDArray[np.bool_] | npt.NDArray[np.int8] | None = None,
        read: Pages | None = None,
    ) -> None:
        """Append a window.

        Args:
            start_ns: when it begins, since the recording did; not before the last window's end.
            end_ns: when it ends, after `start_ns`.
            written: uint64, any length (0: nothing was written), strictly ascending: the pages
                that were written.
            changed: as long as `written`: whether the page's content at the window's end is another
                than at its start. bool, or int8 with CHANGED (1), SAME (0) and NOT_MEASURED (-1);
                None: not measured for any.
            read: uint64, strictly ascending: the pages that were read; None where reads are not
                recorded. A page may be in both.

        Raises:
            BadTrace: what cannot be, named by the window's number from 0; or the disk is full.
        """
        if not self._end_ns <= start_ns < end_ns <= MOST_NS:
            raise self._error(
                f"[{start_ns}, {end_ns}) ns is empty, begins before the last window's end "
                f"({self._end_ns}), or ends after {MOST_NS}"
            )
        reads = np.zeros(0, np.uint64) if read is None else read
        self._check_pages(written, "written")
        self._check_pages(reads, "read")
        rows = _rows(start_ns, end_ns, written, self._known(written, changed), reads)
        self._end_ns = end_ns
        self._windows += 1
        for first in range(0, len(rows), GROUP_ROWS):
            self._append(rows[first : first + GROUP_ROWS])

    def finish(
        self, recording: Recording, duration_ns: int | None = None, windows: int | None = None
    ) -> Description:
        """Write the end, and give the file its name.

        Args:
            recording: what was recorded; may name mappings that appeared meanwhile.
            duration_ns: how long it was; None: until the last window's end.
            windows: how many there were, where those without a page were left out; None: as many
                as `window` was told.

        Raises:
            BadTrace: there was no window, or pages beyond the recorded addresses; or it cannot be
                written.
        """
        if self._top > recording.pages_top:
            raise BadTrace(
                f"page {self._top - 1} is beyond all addresses of {recording.page_bytes}-byte pages"
            )
        duration = self._end_ns if duration_ns is None else duration_ns
        if duration < self._end_ns:
            raise BadTrace(f"a recording of {duration} ns has a window that ends at {self._end_ns}")
        description = Description(recording, duration, max(self._windows, windows or 0))
        self._flush()
        self._file.finish({METADATA_KEY: description.to_metadata()})
        return description

    def _check_pages(self, pages: Pages, what: str) -> None:
        if pages.dtype != np.uint64 or pages.ndim != 1:
            raise self._error(f"{what} pages are no one-dimensional array of uint64")
        if not len(pages):
            return
        falls = np.flatnonzero(pages[1:] <= pages[:-1])
        if len(falls):
            at = int(falls[0])
            raise self._error(
                f"{what} pages do not ascend: {pages[at + 1]} behind {pages[at]} (number {at + 1})"
            )
        self._top = max(self._top, int(pages[-1]) + 1)

    def _known(
        self, written: Pages, changed: npt.NDArray[np.bool_] | npt.NDArray[np.int8] | None
    ) -> npt.NDArray[np.int8]:
        if changed is None:
            return np.full(len(written), NOT_MEASURED, np.int8)
        known = changed.astype(np.int8)
        if known.shape != written.shape or changed.dtype not in (np.bool_, np.int8):
            raise self._error("`changed` is no array of bool or int8 as long as `written`")
        if len(known) and not NOT_MEASURED <= int(known.min()) <= int(known.max()) <= CHANGED:
            raise self._error("`changed` holds other values than 1, 0 and -1")
        return known

    def _append(self, rows: npt.NDArray[Any]) -> None:
        if self._waiting + len(rows) > GROUP_ROWS:
            self._flush()
        self._rows.append(rows)
        self._waiting += len(rows)

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows = np.concatenate(self._rows)
        self._rows, self._waiting = [], 0
        columns = [np.ascontiguousarray(rows[name]) for name in SCHEMA.names]
        *plain, changed = columns
        arrays = [pa.array(column) for column in plain]
        arrays.append(pa.array(changed == CHANGED, mask=changed == NOT_MEASURED))
        self._file.write(arrays)

    def _error(self, what: str) -> BadTrace:
        return BadTrace(f"window {self._windows}: {what}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, error, traceback)


_ROW_DTYPE = np.dtype(
    [
        ("window_start_ns", np.int64),
        ("window_end_ns", np.int64),
        ("page", np.uint64),
        ("written", np.bool_),
        ("changed", np.int8),
    ]
)


def _rows(
    start_ns: int, end_ns: int, written: Pages, changed: npt.NDArray[np.int8], read: Pages
) -> npt.NDArray[Any]:
    """Rows of one window, ascending."""
    rows = np.zeros(len(written) + len(read), _ROW_DTYPE)
    rows["window_start_ns"], rows["window_end_ns"] = start_ns, end_ns
    rows["page"] = np.concatenate((read, written))
    rows["written"][len(read) :] = True
    rows["changed"][: len(read)] = NOT_MEASURED
    rows["changed"][len(read) :] = changed
    # Stable: of a page that is both, the read comes first, as it does above.
    return rows[np.argsort(rows["page"], kind="stable")] if len(read) else rows
