"""The directory of ``pageferry migrate --flow``: claimed before anything starts, sealed after.

    DIR/*.parquet, flow.json    the flow; the manifest has the digest of every table
    DIR/result.json             the result document of the migration
    DIR/run.json                written last: what was run, and the digests of the manifest and of
                                the result, so that neither can be taken for another's

Of a migration between hosts elsewhere there is no ``run.json``: the user brings flow and result
together, and readers compare every number that both of them have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pageferry import results
from pageferry.document import Document
from pageferry.exclusive import exclusive
from pageferry.results import BadResult
from pageferry.run_record import Record, is_record
from paging_core.errors import BadOption
from paging_core.reading import read_json
from source_host.watch.flow_files import MANIFEST, TABLES, digest_of

RUN_SCHEMA = "pageferry/run/v1"
RUN = "run.json"
RESULT = "result.json"
"""The result document of the migration, beside its flow."""
_AGAIN = "record the flow again, into an empty directory"


def check(directory: Path) -> None:
    """Refuse a directory that a flow cannot go to; nothing is made or changed.

    Raises:
        BadOption: it holds something, is a file, or cannot be made or written.
    """
    way_out = "name an empty or new directory for --flow"
    try:
        if directory.is_dir() and any(directory.iterdir()):
            raise BadOption(f"{directory} is not empty; {way_out}")
        results.check_directory(directory, way_out)
    except (OSError, ValueError) as error:  # such as links in a circle, or a NUL
        raise BadOption(f"{directory} cannot be used ({error}); {way_out}") from error


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Reserve the directory for one migration; if it was made here and is empty, it is removed.

    Raises:
        BadOption: as `check`, or another process writes a flow there.
    """
    made = not directory.exists()
    other = "name another directory for --flow"
    with exclusive(
        directory,
        check,
        taken=BadOption(f"another process writes a flow to {directory}; {other}"),
        failed=lambda error: BadOption(f"{directory} cannot be made ({error.strerror}); {other}"),
    ):
        try:
            yield
        finally:
            if made:
                with suppress(OSError):  # it holds something
                    directory.rmdir()


def seal(directory: Path, document: Document, run: Record) -> None:
    """Put the result beside the flow that was written there, and tie the two together.

    Raises:
        BadResult: it cannot be written.
    """
    recorded = any((directory / f"{table}.parquet").exists() for table in TABLES)
    if not recorded or (directory / RUN).exists():
        return
    results.write(document, str(directory / RESULT))
    manifest = directory / MANIFEST
    digests = {name: _digest(directory / name) for name in (MANIFEST, RESULT)
               if name == RESULT or manifest.is_file()}  # fmt: skip
    results.write({"schema": RUN_SCHEMA, **run, "xxh3_64": digests}, str(directory / RUN))


def record_of(directory: Path) -> Record | None:
    """What was run for this flow; None where hosts elsewhere wrote it.

    Raises:
        BadResult: the file is no such record.
    """
    run = _run(directory)
    if run is None:
        return None
    return {"command": run["command"], "pageferry": run["pageferry"], "date": run["date"],
            "machine": run["machine"]}  # fmt: skip


def check_pair(directory: Path) -> None:
    """Whether manifest and result are those of the one migration that was recorded here.

    Raises:
        BadResult: one of them is not, by name.
    """
    run = _run(directory)
    if run is None:
        return
    for name in (MANIFEST, RESULT):
        if _digest(directory / name) != run["xxh3_64"].get(name):
            raise BadResult(
                f"{directory / name} is not the one that was written with this flow; put "
                f"that one back, or {_AGAIN}"
            )


def _run(directory: Path) -> Mapping[str, Any] | None:
    path = directory / RUN
    if not path.exists():
        return None
    run = read_json(path, BadResult, way_out=_AGAIN)
    if (
        not is_record(run)
        or run.get("schema") != RUN_SCHEMA
        or not isinstance(run.get("xxh3_64"), dict)
    ):
        raise BadResult(f"{path} is no record of a run; {_AGAIN}")
    return dict(run)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return digest_of(file)
    except OSError as error:
        raise BadResult(f"{path} cannot be read ({error.strerror}); {_AGAIN}") from error
