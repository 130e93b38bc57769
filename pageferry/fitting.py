"""Tables that lose no digit, however narrow the terminal.

Columns stand beside the first one as far as there is room; the others go below, beside the first
column again. Prose and headings are wrapped between words before that, and a figure goes on below
itself where its cell says that it may (`MAY_BREAK`). Where the first column
alone takes the room (names of forty letters), every row is a small table of its own. Only a word
that is wider than the terminal is folded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_GAP = 3
"""Blanks between two columns."""
_PROSE = 24
"""Prose and headings are not made narrower than this to have more columns beside each other."""
MAY_BREAK = "\u200b"
"""In a cell: a blank where there is room for all of the cell, else the end of a line."""

Cell = str | Text
"""Rich markup, or text as it is."""


@dataclass(frozen=True)
class Line:
    """One row.

    Attributes:
        cells: one for each column.
        style: of the row.
        ends_section: a rule follows.
    """

    cells: tuple[Cell, ...]
    style: str | None = None
    ends_section: bool = False


@dataclass(frozen=True)
class _Width:
    """Of a column: what it would take, and with how little no word of it is folded."""

    whole: int
    least: int


@dataclass
class Fitted:
    """A table whose columns are put side by side as far as there is room.

    Attributes:
        titles: of the columns; the first one names the rows.
        lines: rows, top down.
        left: titles of columns beside the first whose cells are text.
        prose: titles of columns whose cells may be wrapped between words.
        title: above the table.
        note: below it.
    """

    titles: tuple[str, ...]
    lines: list[Line] = field(default_factory=list)
    left: frozenset[str] = frozenset()
    prose: frozenset[str] = frozenset()
    title: str | None = None
    note: str | None = None

    def add(self, *cells: Cell, style: str | None = None) -> None:
        """One row more."""
        self.lines.append(Line(cells, style))

    def end_section(self) -> None:
        """A rule below what was added so far."""
        if self.lines:
            last = self.lines[-1]
            self.lines[-1] = Line(last.cells, last.style, ends_section=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As many tables below each other as the width makes necessary."""
        if self.title:
            yield Text(self.title, style="italic")
        for i, table in enumerate(self._tables(options.max_width)):
            if i:
                yield ""
            yield table
        if self.note:
            yield Text(self.note, style="italic dim")

    def _tables(self, width: int) -> Iterator[Table]:
        columns = [self._width(column) for column in range(len(self.titles))]
        first, rest = columns[0], columns[1:]
        widest = max((column.least for column in rest), default=0)
        for_first = min(first.whole, max(first.least, width // 2))
        if for_first + _GAP + widest > width:
            for_first = first.least
        if for_first + _GAP + widest > width and 3 * for_first > width:
            yield from (self._card(line, width) for line in self.lines)
            return
        for group in _groups(rest, width - for_first):
            yield self._table(for_first, _shared(rest, group, width - for_first))

    def _width(self, column: int) -> _Width:
        title = Text.from_markup(self.titles[column])
        cells = [_in_one(_text(line.cells[column])) for line in self.lines]
        broken = [_broken(_text(line.cells[column])) for line in self.lines]
        wraps = column == 0 or self.titles[column] in self.prose
        whole = max(map(_length, [title, *cells]))
        least = max([_wrapped(title), *(map(_wrapped if wraps else _length, broken))])
        if column == 0:
            least = max(_indent(each) + _longest_word(each) for each in (title, *cells))
        return _Width(whole, min(least, whole))

    def _table(self, first: int, columns: Mapping[int, int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        table.add_column(self.titles[0], overflow="fold", width=first)
        for column, width in columns.items():
            title = self.titles[column]
            text = title in self.left or title in self.prose
            table.add_column(
                title, justify="left" if text else "right", overflow="fold", width=width
            )
        for line in self.lines:
            widths = {0: first, **columns}
            cells = [_within(line.cells[column], width) for column, width in widths.items()]
            table.add_row(*cells, style=line.style, end_section=line.ends_section)
        return table

    def _card(self, line: Line, width: int) -> Table:
        """A row by itself: what it is called, and below that what its columns say."""
        card = Table.grid(padding=(0, 1, 0, 0))
        card.add_column(overflow="fold")
        card.add_row(line.cells[0], style=line.style)
        titles = [Text("  ") + Text.from_markup(title) for title in self.titles[1:]]
        room = width - max(map(_length, titles)) - 2 * _GAP
        if any(_longest_word(_text(cell)) > room for cell in line.cells[1:]):
            for title, cell in zip(titles, line.cells[1:], strict=True):
                card.add_row(title, style=line.style)
                card.add_row(Text("    ") + _within(cell, width - 4), style=line.style)
            return card
        inner = Table.grid(padding=(0, _GAP, 0, 0))
        inner.add_column(overflow="fold")
        inner.add_column(overflow="fold")
        for title, cell in zip(titles, line.cells[1:], strict=True):
            inner.add_row(title, _within(cell, room), style=line.style)
        card.add_row(inner)
        return card


def _groups(columns: Sequence[_Width], room: int) -> Iterator[list[int]]:
    """Columns that fit beside the first one, in order; counted from 1, as it is the 0th."""
    group: list[int] = []
    used = 0
    for number, column in enumerate(columns, 1):
        needed = _GAP + column.least
        if group and used + needed > room:
            yield group
            group, used = [], 0
        group.append(number)
        used += needed
    yield group


def _shared(columns: Sequence[_Width], group: Sequence[int], room: int) -> dict[int, int]:
    """How wide each column of a group is: the room that is left goes to the wrapped ones."""
    room -= _GAP * len(group)
    widths = {number: max(1, min(columns[number - 1].least, room)) for number in group}
    left = room - sum(widths.values())
    for number in group:
        more = min(max(0, left), columns[number - 1].whole - widths[number])
        widths[number] += max(0, more)
        left -= max(0, more)
    return widths


def _text(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else Text.from_markup(cell)


def _in_one(text: Text) -> Text:
    return Text(" ").join(text.split(MAY_BREAK))


def _broken(text: Text) -> Text:
    return Text("\n").join(text.split(MAY_BREAK))


def _within(cell: Cell, width: int) -> Text:
    """A cell in a column of a width: in one line if it fits, else broken where it may be."""
    whole = _in_one(_text(cell))
    return whole if _length(whole) <= width else _broken(_text(cell))


def _length(text: Text) -> int:
    """Of its longest line, as it is shown."""
    return max((cell_len(line) for line in text.plain.splitlines()), default=0)


def _indent(text: Text) -> int:
    return len(text.plain) - len(text.plain.lstrip(" "))


def _longest_word(text: Text) -> int:
    return max((cell_len(word) for word in text.plain.split()), default=0)


def _wrapped(text: Text) -> int:
    """How narrow prose becomes."""
    return max(_longest_word(text), min(_length(text), _PROSE))


def stacked(
    titles: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    left: Sequence[str] = (),
    prose: Sequence[str] = (),
) -> Fitted:
    """A fitted table of rows that are there already."""
    lines = [Line(tuple(row)) for row in rows]
    return Fitted(tuple(titles), lines, frozenset(left), frozenset(prose))
