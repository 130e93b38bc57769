"""`pageferry` as a program: help that loads fast, one line per error, exit codes."""

from __future__ import annotations

import importlib
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner, Result

from pageferry.cli.main import COMMANDS, main

SLOW_TO_IMPORT = ("numba", "numpy", "grpc", "pyarrow", "rich", "structlog")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def error_line(result: Result) -> str:
    """The one line that a failed command said on stderr."""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_help_loads_nothing_that_is_slow(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from pageferry.cli.main import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit:\n"
        f"    print([name for name in {SLOW_TO_IMPORT!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_help_teaches_by_examples() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "pageferry demo" in result.stdout
    assert "--group-pages 64" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_is_what_the_list_says(name: str) -> None:
    module, attribute = COMMANDS[name].target.split(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert run(name, "--help").exit_code == 0


def test_the_examples_in_the_help_are_commands_that_exist() -> None:
    text = run("--help").stdout + run("migrate", "--help").stdout
    examples = [shlex.split(line) for line in text.splitlines() if line.startswith("  pageferry")]
    examples += [
        shlex.split(line) for line in text.splitlines() if line.startswith("    pageferry")
    ]
    assert len(examples) > 5
    for _, name, *arguments in examples:
        module, attribute = COMMANDS[name].target.split(":")
        command = getattr(importlib.import_module(module), attribute)
        command.make_context(name, arguments)


def test_no_arguments_shows_the_help() -> None:
    result = run()
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


def test_the_version_is_the_packages() -> None:
    assert run("--version").stdout == "pageferry 0.1.0\n"


def test_an_unknown_command_is_one_line() -> None:
    result = run("migrat")
    assert result.exit_code == 2
    assert "migrat" in error_line(result)
    assert "pageferry --help" in error_line(result) or "main --help" in error_line(result)


def test_an_unknown_option_names_the_one_that_was_meant() -> None:
    result = run("migrate", "--group-page", "64")
    assert result.exit_code == 2
    assert "--group-pages" in error_line(result)


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m pageferry.cli.main costs | head -1"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True)
    assert done.stderr == ""
