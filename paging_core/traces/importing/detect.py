"""Which tool wrote a text or a file, where its beginning says so beyond doubt."""

from __future__ import annotations

import re

from paging_core.traces.importing.damon import FIRST_WORDS as OF_DAMON
from paging_core.traces.importing.listing import HEADER

HEAD_BYTES = 1 << 12
"""Of the beginning that is looked at."""
_OF_DRMEMTRACE = re.compile(rb"Output format:|[^\n]* byte\(s\) @ 0x[0-9a-f]+")
_OF_LACKEY = re.compile(rb"==[0-9:. ]*[0-9]== |(?:I | [LSM]) [0-9A-Fa-f]+,[0-9]+[ \t\r]*\n")


def format_of(head: bytes) -> str:
    """The format's name, as ``pageferry trace import`` has it; empty where it is not certain.

    Bitmaps look like anything.

    Args:
        head: the first bytes, `HEAD_BYTES` of them if there are as many.
    """
    text = head.lstrip(b"\r\n")
    if head.startswith(b"PAR1") or text.split(b"\n", 1)[0].strip() == HEADER:
        return "pages"
    if text.startswith(OF_DAMON):
        return "damon"
    if _OF_DRMEMTRACE.match(text):
        return "drmemtrace"
    return "lackey" if _OF_LACKEY.match(text) else ""
