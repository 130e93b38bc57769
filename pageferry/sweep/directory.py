"""A sweep on disk: a file for each finished point, and the table of all of them.

    DIR/sweep.json          the model that every point was run with
    DIR/points/ID.json      the row of a point, written whole when it ended
    DIR/flows/ID/           its flow and what was predicted, where asked for
    DIR/results.parquet     all rows; made of the points, so it can always be made again

A file per point is what makes a sweep resumable: nothing that a crash can tear is shared.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pageferry.damage import computing_from
from pageferry.exclusive import exclusive
from pageferry.flow_directory import RUN, seal
from pageferry.results import BadResult, check_directory, encode
from pageferry.run_record import Record, is_record, record
from pageferry.sweep.model import model_digest
from pageferry.sweep.point import Point
from pageferry.sweep.table import SCHEMA, Row, row_of, table_of
from pageferry.sweep.work import Finished
from paging_core.errors import AlreadyExists, BadOption, LimitExceeded
from paging_core.reading import read_json

SWEEP_SCHEMA = "pageferry/sweep/v1"
MANIFEST = "sweep.json"
RESULTS = "results.parquet"


class SweepDirectory:
    """The directory of one sweep. Used by one process at a time; see `opened`.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        """Use `opened`."""
        self.path = path
        self._points = path / "points"

    def finished(self, point: Point) -> bool:
        """Whether the point ended already, with the flow that is asked for."""
        if not self._file(point).exists():
            return False
        row = _read(self._file(point))
        failed = row["status"] == "failed"
        return failed or not point.flow or (self.flow_of(point) / RUN).exists()

    def failed(self, point: Point) -> bool:
        """Whether the point ended badly."""
        return self._file(point).exists() and _read(self._file(point))["status"] == "failed"

    def flow_of(self, point: Point) -> Path:
        """Where the flow of a point goes."""
        return self.path / "flows" / point.id

    def make_way(self, point: Point) -> None:
        """Remove what is left of a flow whose point has to be run again.

        Raises:
            LimitExceeded: it cannot be removed.
        """
        flow = self.flow_of(point)
        with _disk(self.path):
            if flow.is_dir():
                shutil.rmtree(flow)

    def keep(self, point: Point, finished: Finished) -> Row:
        """Write down how a point ended; its row last, so that what it promises is there.

        Raises:
            LimitExceeded: the disk is full; what was finished before can still be read.
        """
        row = row_of(point, finished)
        with _disk(self.path):
            flow = self.flow_of(point)
            if finished.predictions is not None and flow.is_dir():
                _write(flow / "predictions.json", encode(finished.predictions))
            if finished.document is not None and flow.is_dir():
                seal(flow, finished.document, record(f"{point.command} --flow {flow}"))
            _write(self._file(point), json.dumps(row, ensure_ascii=False))
        return row

    def write_table(self) -> pa.Table:
        """Make ``results.parquet`` of every finished point.

        Raises:
            LimitExceeded: the disk is full.
        """
        table = table_of(self._rows())
        target = self.path / RESULTS
        with _disk(self.path), _replacing(target) as partial:
            pq.write_table(table, partial, compression="zstd")
        return table

    def read_table(self) -> pa.Table:
        """All finished points: from ``results.parquet`` if it holds them all."""
        target = self.path / RESULTS
        with suppress(OSError, pa.ArrowException):  # damaged: it is made of the points again
            if target.is_file() and pq.read_metadata(target).num_rows == len(self._files()):
                table = pq.read_table(target)
                if table.schema.equals(SCHEMA):
                    return table
        return table_of(self._rows())

    def runs(self) -> list[Record]:
        """What was typed for it, when and where; an early version kept none."""
        return [one for one in _manifest(self.path).get("runs", []) if is_record(one)]

    def rows(self, points: Iterable[Point]) -> list[Row]:
        """Of those points that ended, in their order."""
        return [_read(self._file(one)) for one in points if self._file(one).exists()]

    def _rows(self) -> list[Row]:
        return [_read(file) for file in self._files()]

    def _files(self) -> list[Path]:
        return sorted(self._points.glob("*.json"))

    def _file(self, point: Point) -> Path:
        return self._points / f"{point.id}.json"


@contextmanager
def opened(path: Path, command: str = "") -> Iterator[SweepDirectory]:
    """A sweep's directory for writing: a new one, or one to go on with.

    Args:
        path: where it is.
        command: as it was typed; it is kept with the date and the machine.

    Raises:
        BadOption: it holds something else, another model's sweep, or cannot be made.
        AlreadyExists: another process runs this sweep.
        LimitExceeded: the disk is full.
    """
    with exclusive(
        path,
        check_place,
        taken=AlreadyExists(
            f"another process sweeps into {path}; wait for it or use another --out"
        ),
        failed=lambda error: _cannot_write(path, error),
    ):
        _check_model(path)
        _note_run(path, record(command))
        with _disk(path):
            (path / "points").mkdir(exist_ok=True)
        yield SweepDirectory(path)


def existing(path: Path) -> SweepDirectory:
    """A sweep's directory for reading.

    Raises:
        BadResult: it is no sweep, or of another version.
    """
    if not (path / MANIFEST).is_file():
        raise BadResult(f"{path} is not a sweep; name the --out of pageferry sweep")
    _manifest(path)
    return SweepDirectory(path)


def check_place(path: Path) -> None:
    """Refuse a place where no sweep can be; nothing is made or changed.

    Raises:
        BadOption: it is a file, holds something else, or cannot be made or written.
    """
    way_out = "name an empty or new directory for --out"
    try:
        if path.exists() and not path.is_dir():
            raise BadOption(f"{path} is a file; name a directory for --out")
        if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).exists():
            raise BadOption(f"{path} holds something that is no sweep; name an empty directory")
        check_directory(path, way_out)
    except (OSError, ValueError) as error:  # such as links in a circle, or a NUL
        raise BadOption(f"{path} cannot be used ({error}); {way_out}") from error


def _check_model(path: Path) -> None:
    if not (path / MANIFEST).exists():
        text = json.dumps({"schema": SWEEP_SCHEMA, "model": model_digest()}, indent=2)
        with _disk(path):
            _write(path / MANIFEST, text + "\n")
    elif _manifest(path).get("model") != model_digest():
        raise BadOption(
            f"the sweep in {path} was begun with another version of pageferry's model and its "
            "results would not compare; use another --out"
        )


def _note_run(path: Path, run: Record) -> None:
    """Keep what was typed, when and where; the same again on the same machine only once."""
    manifest = _manifest(path)
    runs = [one for one in manifest.get("runs", []) if is_record(one)]
    same = [one for one in runs if {**one, "date": ""} == {**run, "date": ""}]
    if not same:
        text = json.dumps({**manifest, "runs": [*runs, run]}, indent=2, ensure_ascii=False)
        with _disk(path):
            _write(path / MANIFEST, text + "\n")


def _manifest(path: Path) -> dict[str, Any]:
    manifest = read_json(path / MANIFEST, BadResult, way_out="sweep into another directory")
    if not isinstance(manifest, dict) or manifest.get("schema") != SWEEP_SCHEMA:
        raise BadResult(f"{path} is not a sweep of version {SWEEP_SCHEMA}; run it again")
    return manifest


def _read(file: Path) -> Row:
    again = "delete it and sweep again"
    row = read_json(file, lambda line: BadResult(f"{line}; {again}"))
    if not isinstance(row, dict) or row.get("status") not in ("ok", "failed"):
        raise BadResult(f"{file} holds no point of a sweep; {again}")
    with computing_from(str(file), again):
        table_of([row])
    return row


def _write(target: Path, text: str) -> None:
    with _replacing(target) as partial:
        partial.write_text(text)


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A file that appears whole or not at all."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, BadResult) as caught:
        error = caught.__cause__ if isinstance(caught, BadResult) else caught
        if not isinstance(error, OSError):
            raise
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> LimitExceeded:
    return LimitExceeded(
        f"cannot write to {path}: {error.strerror or error}; make room or use another --out, "
        "then repeat the command: finished points are kept"
    )
