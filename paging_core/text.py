"""Text of others for display: as it is, in one line, without control characters."""

from __future__ import annotations

_SHOWN_CHARS = 60


def shown(text: str | bytes, most_chars: int = _SHOWN_CHARS) -> str:
    r"""A text in quotes: blanks as they are, anything unprintable escaped, the rest cut off.

    Bytes are read as UTF-8; those that are none stand there as ``\x9b``.
    """
    whole = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    quote = '"' if "'" in whole and '"' not in whole else "'"
    cut = "…" if len(whole) > most_chars else ""
    return f"{quote}{printable(whole[:most_chars])}{quote}{cut}"


def printable(text: str) -> str:
    """The same text, anything unprintable in it escaped: control characters, half pairs."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(one: str) -> str:
    code = ord(one)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python keeps it
        return f"\\x{code - 0xDC00:02x}"
    return one.encode("unicode_escape").decode()
