"""Result documents as files: written whole or not at all, read only when they are one."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, cast

import jsonschema

from pageferry.document import SCHEMA_NAME, SCHEMA_VERSION, Document
from paging_core.errors import BadOption, InvalidInput
from paging_core.reading import read_json

_BEYOND_ASCII = re.compile(r"[^\n -~]")


class BadResult(InvalidInput):
    """A file that is no result document, or of a version that this pageferry cannot read."""


def schema() -> dict[str, Any]:
    """The JSON Schema that every document follows."""
    text = resources.files("pageferry").joinpath("schema/migration-v1.json").read_text()
    return cast("dict[str, Any]", json.loads(text))


def encode(document: Mapping[str, Any]) -> str:
    """The document as it is written: the same document always gives the same bytes.

    Of a text in it (a trace says what recorded it) nothing reaches a terminal that it would obey.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return _BEYOND_ASCII.sub(_as_json_shows_it, text) + "\n"


def _as_json_shows_it(found: re.Match[str]) -> str:
    one = found[0]
    return one if one.isprintable() else json.dumps(one)[1:-1]


def check_target(target: str) -> None:
    """Refuse a place that cannot be written before anything has run for it.

    Raises:
        BadResult: no such directory, no right to write there, a directory itself, or part of a
            flow.
    """
    if target == "-":
        return
    path = Path(target)
    try:
        if path.is_dir():
            raise BadResult(f"cannot write {target}: it is a directory; name a file in it")
        if _is_device(path):
            _check_writable(path, target)
            return
        place = path.resolve().parent  # a file is replaced, not written over
        if not place.exists():
            raise BadResult(
                f"cannot write {target}: there is no directory {place}; name another file"
            )
        if not place.is_dir():
            raise BadResult(f"cannot write {target}: {place} is a file; name another file")
        _check_writable(place, target)
        _check_no_flow(path.resolve(), target)
    except (OSError, RuntimeError, ValueError) as error:
        # such as a name that is too long, links in a circle, or a NUL
        raise BadResult(f"cannot write {target}: {error}; name another file") from error


def _check_writable(place: Path, target: str) -> None:
    if not os.access(place, os.W_OK):
        raise BadResult(f"cannot write {target}: you may not write there; name another file")


def _check_no_flow(path: Path, target: str) -> None:
    """A flow and its result know each other by digest: neither is replaced alone."""
    is_part = path.suffix == ".parquet" or path.name in ("flow.json", "run.json")
    is_result = path.name == "result.json" and (path.parent / "run.json").exists()
    if (path.parent / "flow.json").exists() and (is_part or is_result):
        raise BadResult(
            f"cannot write {target}: it is part of the flow in {path.parent}; name another file"
        )


def check_directory(directory: Path, way_out: str) -> None:
    """Refuse a directory that cannot be made or written to; nothing is made or changed.

    Raises:
        BadOption: it is a file, lies in one, or you may not write there.
    """
    place = directory
    while not place.exists() and not place.is_symlink() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise BadOption(f"{place} is no directory; {way_out}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise BadOption(f"you may not write to {place}; {way_out}")
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        raise BadOption(f"{place} cannot be written to; {way_out}")


def write(document: Mapping[str, Any], target: str) -> None:
    """Write a document to a file, or to stdout for ``-``.

    A regular file appears whole or not at all, however the process ends.

    Raises:
        BadResult: the place cannot be written.
    """
    write_text(encode(document), target)


def write_text(text: str, target: str) -> None:
    """Write a text as `write` does a document.

    Raises:
        BadResult: the place cannot be written.
    """
    try:
        if target == "-":
            sys.stdout.write(text)
        elif _is_device(Path(target)):
            Path(target).write_text(text)
        else:
            _replace(Path(target).resolve(), text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise BadResult(f"cannot write {target}: {error.strerror}; name another file") from error


def _is_device(path: Path) -> bool:
    # /dev/stdout and named pipes are written to, never replaced.
    return path.exists() and not path.is_file()


def _replace(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        written = Path(file.name)
    try:
        written.write_text(text)
        written.chmod(0o666 & ~_umask())
        written.replace(path)
    except BaseException:
        written.unlink()
        raise


def read(path: Path) -> Document:
    """Read a document back.

    Raises:
        BadResult: unreadable, not JSON, not a result, or of another version.
    """
    content = read_json(path, BadResult, way_out="give a file written by --json")
    _check(content, path)
    return cast("Document", content)


def _check(content: object, path: Path) -> None:
    declared = content.get("schema") if isinstance(content, dict) else None
    expected = {"name": SCHEMA_NAME, "version": SCHEMA_VERSION}
    if declared != expected:
        raise BadResult(
            f"{path} is not a {SCHEMA_NAME} document of version {SCHEMA_VERSION}; "
            "write it again with pageferry migrate --json"
        )
    try:
        jsonschema.validate(content, schema())
    except jsonschema.ValidationError as error:
        raise BadResult(
            f"{path} is not a whole result, at {error.json_path[:200]}: {error.message[:200]}; "
            "write it again with pageferry migrate --json"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
