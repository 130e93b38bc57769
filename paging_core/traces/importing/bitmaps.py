"""Importing a series of dirty bitmaps: one raw file for each round, one bit for each page.

Bit i of byte j is page 8 j + i, counted from the least significant bit: as KVM's
KVM_GET_DIRTY_LOG fills them (Documentation/virt/kvm/api.rst), as Xen's XEN_DOMCTL_SHADOW_OP_CLEAN
and _PEEK do (xen/include/public/domctl.h), and as QEMU's bitmaps lie in memory on a little-endian
machine. All files have one size; the memory is as large as its bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from paging_core.errors import BadTrace
from paging_core.traces.written.schema import MOST_NS, Description, Recording
from paging_core.traces.written.writer import WrittenPagesWriter

_CHUNK_BYTES = 1 << 20
_MOST_BYTES = 1 << 30
"""Of a bitmap: 32 TiB of 4 KiB pages."""


def import_bitmaps(
    files: Sequence[Path],
    out: Path,
    recording: Recording,
    window_ns: int,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Description:
    """Turn dirty bitmaps into a trace, a window for each; `out` appears whole or not at all.

    Args:
        files: the bitmaps, in the order of the rounds.
        out: the Parquet file to write; one that is there is replaced.
        recording: what was recorded; `memory_bytes` of 0 becomes what the bits cover.
        window_ns: how long each round was.
        progress: told how many more bytes were read.

    Raises:
        BadTrace: a file cannot be read, has another size than the first, or has a bit set beyond
            the memory, named by its offset; or `out` cannot be written.
    """
    if not 1 <= window_ns <= MOST_NS // max(1, len(files)):
        raise BadTrace(f"{len(files)} rounds of {window_ns} ns are no time, or more than 104 days")
    size_bytes = _size_of(files[0])
    covered = size_bytes * 8 * recording.page_bytes
    described = recording if recording.memory_bytes else replace(recording, memory_bytes=covered)
    with WrittenPagesWriter(out) as writer:
        for i, file in enumerate(files):
            pages = _pages_of(file, size_bytes, described, progress)
            writer.window(i * window_ns, (i + 1) * window_ns, pages)
        return writer.finish(described)


def _size_of(file: Path) -> int:
    try:
        size_bytes = file.stat().st_size
    except OSError as error:
        raise BadTrace(f"cannot read {file}: {error.strerror}") from error
    if not file.is_file() or not 1 <= size_bytes <= _MOST_BYTES:
        raise BadTrace(f"{file} is no bitmap: it is no regular file, empty, or larger than 1 GiB")
    return size_bytes


def _pages_of(
    file: Path, size_bytes: int, recording: Recording, progress: Callable[[int], None]
) -> npt.NDArray[np.uint64]:
    """The pages whose bits are set."""
    found = _size_of(file)
    if found != size_bytes:
        raise BadTrace(
            f"{file} has {found:,} bytes, and the first bitmap has {size_bytes:,}; bitmaps of one "
            "series are of the same memory"
        )
    parts = [np.zeros(0, np.uint64)]
    try:
        with file.open("rb") as stream:
            parts += _set_bits(stream, progress)
    except OSError as error:
        raise BadTrace(f"cannot read {file}: {error.strerror}") from error
    pages = np.concatenate(parts)
    top = -(-recording.memory_bytes // recording.page_bytes)
    if len(pages) and int(pages[-1]) >= top:
        at = int(pages[np.searchsorted(pages, np.uint64(top))])
        raise BadTrace(
            f"{file}: offset {at // 8} has a bit set for page {at}, beyond the {top:,} pages of "
            "the memory; is the page size right?"
        )
    return pages


def _set_bits(stream: BinaryIO, progress: Callable[[int], None]) -> list[npt.NDArray[np.uint64]]:
    parts, offset = [], 0
    while chunk := stream.read(_CHUNK_BYTES):
        bits = np.unpackbits(np.frombuffer(chunk, np.uint8), bitorder="little")
        parts.append(np.flatnonzero(bits).astype(np.uint64) + np.uint64(offset * 8))
        offset += len(chunk)
        progress(len(chunk))
    return parts
