"""What fields the parser's records have, for type checkers alone.

Classes for annotations, of which nothing is ever made. Generated from the dtypes by `make views`.
"""

from __future__ import annotations


class RowView:
    """Fields of a ROW_DTYPE."""

    instructions: int
    page: int
    accesses: int
    write: int


class SeenView:
    """Fields of a SEEN_DTYPE."""

    key: int
    window: int
    row: int


class ParserView:
    """Fields of a PARSER_DTYPE."""

    lines: int
    instructions: int
    reads: int
    writes: int
    rows: int
    window: int
    window_end: int
    window_row: int
