"""Every command that a page or a --help shows is one that the programs take, option by option."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import dest_host.cli
import source_host.cli
from pageferry.cli.main import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS: dict[str, click.Group] = {
    "pageferry": main,
    "source-host": source_host.cli.cli,
    "dest-host": dest_host.cli.cli,
}
PLACEHOLDERS = re.compile(r"…|\.\.\.")
ENDS = {"|", "||", "&&", ";", "&", ">", ">>", "2>", "<"}


def code_on(page: Path) -> Iterator[str]:
    """Lines of its blocks of code, fenced or indented, those that go on joined."""
    text, fenced = page.read_text(encoding="utf-8").replace("\\\n", " "), False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line


def helps(command: click.Command) -> Iterator[str]:
    """Lines of the examples in its --help, and of its subcommands'."""
    yield from (command.epilog or "").replace("\\\n", " ").splitlines()
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            assert subcommand is not None
            yield from helps(subcommand)


def commands_in(line: str) -> Iterator[list[str]]:
    """The calls of our programs in a line for a shell."""
    if PLACEHOLDERS.search(line) or not any(program in line for program in PROGRAMS):
        return
    line = re.sub(r"\$\([^)]*\)", "1", line)  # what the shell puts there, such as a process
    try:
        words = shlex.split(line.strip().removeprefix("$ "), comments=True)
    except ValueError:
        return  # not for a shell
    call: list[str] = []
    for word in [*words, ";"]:
        if word in ENDS:
            if Path(call[0] if call else "").name in PROGRAMS and call[1:] != ["--help"]:
                yield call
            call = []
        elif call or not re.match(r"\w+=|sudo$", word):
            call.append(word)


def found() -> dict[str, list[str]]:
    """Each command, by where it stands."""
    places = [(page.name, code_on(page)) for page in PAGES]
    places += [(f"{name} --help", helps(program)) for name, program in PROGRAMS.items()]
    return {
        f"{place}: {shlex.join(call)}": call
        for place, lines in places
        for line in lines
        for call in commands_in(line)
    }


COMMANDS = found()


def check(call: list[str]) -> None:
    """Refuse what the program would, but for files that are not there.

    Raises:
        click.UsageError: an unknown command, option or value.
    """
    program, *words = call
    command: click.Command = PROGRAMS[Path(program).name]
    context = click.Context(command, info_name=program)
    while isinstance(command, click.Group):
        name, subcommand, words = command.resolve_command(context, words)
        assert name is not None
        assert subcommand is not None
        command, context = subcommand, click.Context(subcommand, context, name)
    values, rest, _ = command.make_parser(context).parse_args(words)
    if rest:
        raise click.UsageError(f"too many arguments: {rest}")
    for parameter in command.params:
        value, _ = parameter.consume_value(context, values)
        if not isinstance(parameter.type, click.Path):
            parameter.process_value(context, value)
        elif parameter.required and parameter.value_is_missing(value):
            raise click.MissingParameter(param=parameter)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_on_a_page_is_one(command: str) -> None:
    check(COMMANDS[command])


def test_pages_and_helps_were_read() -> None:
    places = {command.partition(":")[0] for command in COMMANDS}
    assert {"README.md", "deployment.md", "traces.md", "pageferry --help", "dest-host --help"} <= (
        places
    )


@pytest.mark.parametrize(
    "line",
    [
        "pageferry migrat --memory 64MiB",
        "pageferry migrate --memmory 64MiB",
        "pageferry migrate --paging hapless",
        "pageferry migrate 64MiB",
        "A=1 cat x | .venv/bin/pageferry trace import lackey - --outt y.parquet",
        "pageferry certs",
        "source-host serve --max-incoming 4",
        "dest-host serve --max-incoming 0",
    ],
)
def test_what_is_none_is_seen(line: str) -> None:
    (call,) = commands_in(line)
    with pytest.raises(click.UsageError):
        check(call)
