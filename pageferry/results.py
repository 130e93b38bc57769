"""Result documents as files: written whole or not at all, read only when they are one."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, cast

import jsonschema

from pageferry.document import SCHEMA_NAME, SCHEMA_VERSION, Document
from paging_core.errors import InvalidInput
from paging_core.reading import read_json


class BadResult(InvalidInput):
    """A file that is no result document, or of a version that this pageferry cannot read."""


def schema() -> dict[str, Any]:
    """The JSON Schema that every document follows."""
    text = resources.files("pageferry").joinpath("schema/migration-v1.json").read_text()
    return cast("dict[str, Any]", json.loads(text))


def encode(document: Mapping[str, Any]) -> str:
    """The document as it is written: the same document always gives the same bytes."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def check_target(target: str) -> None:
    """Refuse a place that cannot be written before a migration has run for it.

    Raises:
        BadResult: no such directory, no right to write there, or a directory itself.
    """
    path = Path(target)
    if target == "-":
        return
    if path.is_dir():
        raise BadResult(f"cannot write {target}: it is a directory; name a file in it")
    place = path if path.exists() else path.parent
    if not os.access(place, os.W_OK):
        reason = "you may not write there" if place.exists() else f"there is no directory {place}"
        raise BadResult(f"cannot write {target}: {reason}; name another file")


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
