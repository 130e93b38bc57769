"""Tables that lose no digit, however narrow the terminal.

What does not fit beside the first column goes below it, under the first column again; a cell
that does not fit even alone is folded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_GAP = 3
"""Blanks between two columns."""


@dataclass(frozen=True)
class Line:
    """One row.

    Attributes:
        cells: as rich markup, one for each column.
        style: of the row.
        ends_section: a rule follows.
    """

    cells: tuple[str, ...]
    style: str | None = None
    ends_section: bool = False


@dataclass
class Fitted:
    """A table whose columns are put side by side as far as there is room.

    Attributes:
        titles: of the columns; the first one names the rows.
        lines: rows, top down.
        left: titles of columns beside the first whose cells are text.
    """

    titles: tuple[str, ...]
    lines: list[Line] = field(default_factory=list)
    left: frozenset[str] = frozenset()

    def add(self, *cells: str, style: str | None = None) -> None:
        """One row more."""
        self.lines.append(Line(cells, style))

    def end_section(self) -> None:
        """A rule below what was added so far."""
        if self.lines:
            last = self.lines[-1]
            self.lines[-1] = Line(last.cells, last.style, ends_section=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As many tables below each other as the width makes necessary."""
        for i, columns in enumerate(self._groups(options.max_width)):
            if i:
                yield ""
            yield self._table(columns)

    def _groups(self, width: int) -> Iterator[list[int]]:
        """Columns that fit beside the first one, in order."""
        first = self._width(0)
        group: list[int] = []
        used = first
        for column in range(1, len(self.titles)):
            needed = _GAP + self._width(column)
            if group and used + needed > width:
                yield group
                group, used = [], first
            group.append(column)
            used += needed
        yield group

    def _width(self, column: int) -> int:
        cells = [self.titles[column], *(line.cells[column] for line in self.lines)]
        return max(_length(cell) for cell in cells)

    def _table(self, columns: Sequence[int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        table.add_column(self.titles[0], overflow="fold")
        for column in columns:
            title = self.titles[column]
            justify = "left" if title in self.left else "right"
            table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
        for line in self.lines:
            cells = [line.cells[0], *(line.cells[column] for column in columns)]
            table.add_row(*cells, style=line.style, end_section=line.ends_section)
        return table


def _length(cell: str) -> int:
    """Of its longest line, as it is shown."""
    return max((cell_len(line) for line in Text.from_markup(cell).plain.splitlines()), default=0)


def stacked(
    titles: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str] = ()
) -> Fitted:
    """A fitted table of rows that are there already."""
    return Fitted(tuple(titles), [Line(tuple(row)) for row in rows], frozenset(left))
