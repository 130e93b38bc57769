"""What was run: the command, the version, when and where, and every setting."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pageferry.report.page import Section
from pageferry.run_record import Record
from pageferry.sweep.settings import SETTINGS, settings_of


def run_sections(records: Sequence[Record], configs: Sequence[Mapping[str, Any]]) -> list[Section]:
    """The commands with their surroundings, and the settings that all runs share.

    Args:
        records: of the commands; none where an early version or a host elsewhere kept none.
        configs: of the result documents.
    """
    sections = []
    if records:
        sections.append(Section("What was run", table=_commands(records)))
    several = len(configs) > 1
    title = "Settings that all runs share" if several else "Settings"
    note = (
        "Those in which the runs differ are columns of the table of every run." if several else ""
    )
    return [*sections, Section(title, note, table=settings_table(configs))]


def settings_table(configs: Sequence[Mapping[str, Any]]) -> str:
    """HTML of every setting that has the same value in all configurations."""
    columns = [settings_of(config) for config in configs]
    rows = []
    for setting in SETTINGS:
        values = {repr(each[setting.name]): each[setting.name] for each in columns}
        if len(values) == 1:
            (value,) = values.values()
            rows.append((setting.name, setting.title, setting.show(value)))
    return _table(("name", "setting", "value"), rows, long=2)


def _commands(records: Iterable[Record]) -> str:
    return _table(
        ("command", "pageferry", "date", "machine"),
        [(one["command"], one["pageferry"], one["date"], one["machine"]) for one in records],
        long=0,
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, long: int) -> str:
    """HTML of a table of words; those of the long column are broken anywhere on a phone."""
    head = "".join(f'<th class="text">{html.escape(title)}</th>' for title in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="text words{" long" if i == long else ""}">{html.escape(str(cell))}</td>'
            for i, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
