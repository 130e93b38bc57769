"""Explains why a line of lackey's text is refused, and what a file is instead."""

from __future__ import annotations

import re
from pathlib import Path
from shlex import quote

from paging_core.text import shown
from paging_core.traces.kernels.lackey_parser import MAX_ACCESS_BYTES
from paging_core.workloads.ops import USER_TOP

HOW = "record with: valgrind --tool=lackey --trace-mem=yes --log-file=FILE PROGRAM"

_COMMAND = re.compile(rb"^==[0-9:. ]*[0-9]== Command: (.*?)\r?$", re.MULTILINE)
_ACCESS = re.compile(rb"(?:I | [LSM]) ([0-9A-Fa-f]+),([0-9]+)[ \t\r]*")

_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gzip -dc"),
    b"BZh": ("bzip2", "bzip2 -dc"),
    b"\xfd7zXZ\x00": ("xz", "xz -dc"),
    b"\x5d\x00\x00": ("lzma", "xz -dc --format=lzma"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc"),
    b"\x04\x22\x4d\x18": ("lz4", "lz4 -dc"),
    b"LZIP": ("lzip", "lzip -dc"),
    b"\x1f\x9d": ("compress", "gzip -dc"),
    b"PK\x03\x04": ("zip", "funzip"),
}
"""What a compressed file begins with, and what turns its text into a stream."""
_ENCODED = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_WITHOUT_MARK = {b"\1\0\1\0": "UTF-16LE", b"\0\1\0\1": "UTF-16BE"}
"""Which of the first four bytes are not zero."""
_UTF8_MARK = b"\xef\xbb\xbf"


def command_in(lines: bytes) -> bytes:
    """The program that was traced, as Valgrind says in its own lines; empty if it does not."""
    found = _COMMAND.search(lines)
    return found[1] if found else b""


def refused(line: bytes) -> str:
    """Why a line (without its newline) is no access that can be, to stand behind its number."""
    access = _ACCESS.fullmatch(line)
    if access is None:
        return f"is none of lackey's ({shown(line)}); {HOW}"
    # Longer numbers than these are beyond every bound, and slow to read.
    address, size_bytes = int(access[1][-40:], 16), int(access[2][-40:])
    if not 1 <= size_bytes <= MAX_ACCESS_BYTES:
        return f"has an access of {size_bytes} bytes, not 1 to {MAX_ACCESS_BYTES} ({shown(line)})"
    where = f"{address:#x}" if address >= USER_TOP else f"{address:#x} and {size_bytes} bytes"
    return (
        f"has an address outside user space: {where}, which ends at {USER_TOP:#x} "
        f"({shown(line)}); import the text without such lines"
    )


def what_else_it_is(head: bytes, name: str, out: Path) -> str:
    """What a text is that cannot be lackey's as it stands, and how to import it all the same.

    Args:
        head: its beginning.
        name: the file's; "stdin" of a pipe.
        out: where the trace shall go.

    Returns:
        One line; empty when it may be lackey's.
    """
    for magic, (kind, command) in _COMPRESSED.items():
        if head.startswith(magic):
            return f"{name} is compressed ({kind}); {_through(command, name, out)}"
    if head.startswith(_UTF8_MARK):
        return (
            f"{name}: line 1 is none of lackey's: it begins with a byte-order mark (UTF-8); "
            f"{_through('tail -c +4', name, out)}"
        )
    encoding = next((kind for mark, kind in _ENCODED.items() if head.startswith(mark)), "")
    if not encoding:
        encoding = _WITHOUT_MARK.get(bytes(one > 0 for one in head[:4]), "")
    if encoding:
        command = f"iconv -f {encoding} -t ASCII"
        return f"{name} is text in {encoding}; {_through(command, name, out)}"
    return ""


def _through(command: str, name: str, out: Path) -> str:
    """The way through a pipe."""
    source = "" if name == "stdin" else f" <{quote(name)}"
    into = f"pageferry trace import lackey - --out {quote(str(out))}"
    return f"import it through a pipe: {command}{source} | {into}"
