"""Two migrations one after the other, and both results side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pageferry import results
from pageferry.cli import json_target
from pageferry.cli.output import stderr_console
from pageferry.cli.run import Output, check, interruptible, migrate_once
from pageferry.cli.shell import complain
from pageferry.comparison import conclusions, document_of
from pageferry.document import Document
from pageferry.interrupts import Interrupts
from pageferry.request import MigrationOptions
from pageferry.tables import summary
from paging_core.errors import BadOption


def show_both(both: Mapping[str, MigrationOptions], output: Output, directory: str | None) -> int:
    """Migrate under each title, then show both; the exit code of the command.

    Args:
        both: the two migrations by the title of their column, the ungrouped one first.
        output: how to show progress, and where to write both as one document.
        directory: where to keep the documents; None for nowhere.

    Raises:
        InvalidInput: something asked for cannot be; nothing was started.
    """
    targets = {title: _target(directory, title) for title in both}
    for options in both.values():
        check(options)
    if directory is not None:
        _make(Path(directory))
    for target in (*targets.values(), output.json_target):
        json_target.check(target)

    def action(interrupts: Interrupts) -> int:
        documents: list[Document] = []
        for title, options in both.items():
            if not output.quiet:
                stderr_console().print(f"migrating with {title}", style="bold")
            each = replace(output, json_target=targets[title])
            finished = migrate_once(options, each, interrupts)
            if finished.complaint:
                complain(finished.complaint)
                return finished.exit_code
            documents.append(finished.document)
        _show(documents, list(both), output)
        return 0

    return interruptible(action)


def _show(documents: list[Document], titles: list[str], output: Output) -> None:
    console = json_target.written(document_of(documents, titles), output.json_target)
    console.print()
    console.print(summary(documents, titles))
    console.print()
    for sentence in conclusions(*documents):
        console.print(sentence)


def _target(directory: str | None, title: str) -> str | None:
    if directory is None:
        return None
    return str(Path(directory) / f"{title.replace(' ', '-')}.json")


def _make(directory: Path) -> None:
    way_out = "name another directory for --out"
    try:
        results.check_directory(directory, way_out)
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise BadOption(f"{directory} cannot be made ({error}); {way_out}") from error
