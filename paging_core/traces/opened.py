"""Opening a Parquet file of ours: whatever can be wrong with it is one line that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from paging_core.errors import BadTrace
from paging_core.exhaustion import ran_out

_MAGIC = b"PAR1"
_CHUNK_BYTES = 1 << 20
DAMAGED = "copy it again, or import it again"
DAMAGE = (
    pa.ArrowException,
    OSError,
    ValueError,
    LookupError,  # columns of the same name
    MemoryError,  # a size that no machine has
    ArithmeticError,
    RecursionError,
)
"""What comes of bytes that are no trace of ours, whatever library meets them first."""


class OpenedParquet:
    """An open Parquet file. It stays the file that was opened, even if another takes its name.

    Attributes:
        path: as it was given.
        size_bytes: of the file.
        digest: XXH3-64 of the file; the same file has the same one everywhere.
        parquet: its reader.
    """

    def __init__(self, path: str) -> None:
        """Open it; to be called within `about`.

        Raises:
            BadTrace: it is no regular file, no Parquet file, or cut off.
        """
        self.path = path
        check_kind(Path(path))
        self._file = pa.OSFile(path)
        try:
            self.size_bytes = int(self._file.size())
            self.digest = _digest(self._file)
            _check_magic(self._file, self.size_bytes)
            self.parquet = pq.ParquetFile(self._file, page_checksum_verification=True)
        except BaseException:
            self._file.close()
            raise

    def described(self, key: bytes) -> bytes | None:
        """What stands in its metadata under a key."""
        found: bytes | None = (self.parquet.metadata.metadata or {}).get(key)
        return found

    def group_rows(self, most: int) -> list[int]:
        """How many rows each row group has.

        Raises:
            BadTrace: one has none, or more than may be.
        """
        metadata = self.parquet.metadata
        rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        for number, count in enumerate(rows):
            if not 1 <= count <= most:
                raise BadTrace(
                    f"row group {number} says it has {count:,} rows, and 1 to {most:,} can "
                    f"be; {DAMAGED}"
                )
        return rows

    def close(self) -> None:
        """Close the file; nothing of it can be read any more."""
        self._file.close()


@contextmanager
def about(path: str) -> Iterator[None]:
    """Whatever goes wrong in here is one line about that file, or what the host ran out of."""
    try:
        yield
    except BadTrace as error:
        raise BadTrace(f"trace {path}: {error}") from error
    except DAMAGE as error:
        limit = ran_out(error)
        if limit is not None:  # not the file's fault
            raise limit from error
        if isinstance(error, OSError) and error.errno is not None:
            why = error.strerror if error.strerror and "\n" not in error.strerror else str(error)
            raise BadTrace(f"trace {path}: it cannot be read ({why}); name one that can") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadTrace(f"trace {path}: it is damaged ({reason[:200]}); {DAMAGED}") from error


def is_parquet(path: str) -> bool:
    """Whether a file begins as Parquet does; no pipe is opened."""
    try:
        if not Path(path).is_file():
            return False
        with Path(path).open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except (OSError, ValueError):
        return False  # whoever opens it says what is wrong


def check_kind(path: Path) -> None:
    """Opening anything but a file may wait for ever, and reading it may never end."""
    if path.is_dir():
        raise BadTrace("it is a directory; name the trace in it")
    if path.exists() and not path.is_file():
        raise BadTrace("it is no regular file but a pipe or a device; name the trace itself")


def _digest(file: pa.NativeFile) -> int:
    digest = xxhash.xxh3_64()
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.intdigest()


def _check_magic(file: pa.NativeFile, size_bytes: int) -> None:
    """Tell a trace that was cut off from a file that never was one."""
    if size_bytes < len(_MAGIC) or file.read_at(len(_MAGIC), 0) != _MAGIC:
        raise BadTrace("it is not a Parquet file; make a trace with: pageferry trace import")
    if size_bytes < 12 or file.read_at(len(_MAGIC), size_bytes - len(_MAGIC)) != _MAGIC:
        raise BadTrace(f"it is truncated: the end of the Parquet file is missing; {DAMAGED}")
