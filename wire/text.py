"""Text of a peer: shown, logged and kept only after it went through here.

Text of others (a refusal, a name, a message) may hold what steers a terminal, turns
the direction of writing, ends a line of a log, or fills a screen. `line` makes one line of it
that can be printed. Hosts clean what they send and what they log, clients what they receive: each
side does it for itself, because the other one may be hostile. `wire.replies` does it for whole
messages.
"""

from __future__ import annotations

LINE_CHARS = 1000
"""Longest line; pageferry's own errors are half as long."""
REPLACED = "\N{REPLACEMENT CHARACTER}"
"""Stands for each character that is not shown."""
_CUT = "…"


def line(text: str, longest: int = LINE_CHARS) -> str:
    """One line of printable characters that says what `text` does.

    White space of any kind, line ends too, becomes single blanks. What is no printable character
    by Unicode (controls, escape, bidirectional overrides, other format characters, surrogates
    without a partner, private use) becomes `REPLACED`. Cleaning twice changes nothing.

    Args:
        text: of any origin.
        longest: most characters; a longer text is cut and ends with ``…``.
    """
    looked_at = text[: 4 * longest]  # enough to see, however long it is
    shown = " ".join(looked_at.split())
    if not shown.isprintable():
        shown = "".join(each if each.isprintable() else REPLACED for each in shown)
    if len(shown) <= longest and len(looked_at) == len(text):
        return shown
    return shown[: longest - len(_CUT)] + _CUT
