"""Advice in an error is possible: an option that it names exists in the command that prints it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dest_host.cli import cli as dest_host
from pageferry.cli.main import main as pageferry
from paging_core import errors as paging_errors
from source_host.cli import cli as source_host

ROOT = Path(__file__).parents[2]
PACKAGES = ("pageferry", "paging_core", "guests", "wire", "source_host", "dest_host")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
FOREIGN = {
    "--device",
    "--tool",
    "--trace-mem",
    "--log-file",
    "--log-fd",
    "--format",
    "--raw",
    "--csv",
}
"""Of docker, Valgrind, xz, redis-benchmark and damo (--raw_form, --raw_number)."""
HOST_WORDS = re.compile(r"\bhosts?\b|-host\b|\bpageferry [a-z]+")
"""By which a text says whose an option is that the reader's own command does not have."""


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    """Every command below one, by how it is typed."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from commands(below, (*path, name))


def options(command: click.Command) -> set[str]:
    """The options of a command."""
    return {name for param in command.params for name in (*param.opts, *param.secondary_opts)}


COMMANDS = {
    path: options(command)
    for name, root in (
        ("pageferry", pageferry), ("source-host", source_host), ("dest-host", dest_host),
    )
    for path, command in commands(root, (name,))
}  # fmt: skip
EVERYWHERE = {"--help", "--version"}
ALL = set().union(*COMMANDS.values()) | EVERYWHERE | FOREIGN


RAISERS = {name for name in vars(paging_errors) if name[0].isupper()} | {
    "BadResult", "UsageError", "BadParameter",
}  # fmt: skip


def errors() -> Iterator[tuple[str, str]]:
    """Texts of errors that the sources raise or make, with the file where they stand."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            if file.name.endswith(("_pb2.py", "_pb2_grpc.py")):
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Raise) or _makes_an_error(node) or _says_why(node):
                    for text in _texts(node):
                        yield str(file.relative_to(ROOT)), text


def _makes_an_error(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in RAISERS


def _says_why(node: ast.AST) -> bool:
    """A text that is returned to the code that raises it ends in a way out."""
    return isinstance(node, ast.Return) and any("; " in text for text in _texts(node))


def _texts(node: ast.AST) -> Iterator[str]:
    """Strings in it, those with holes as one; docstrings and arguments of options are not asked."""
    parts = {
        id(part)
        for child in ast.walk(node)
        if isinstance(child, ast.JoinedStr)
        for part in child.values
    }
    for child in ast.walk(node):
        if id(child) in parts:
            continue
        if isinstance(child, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "…" for part in child.values
            )
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value


TEXTS = sorted({(where, text) for where, text in errors() if OPTION.search(text)})
HELP = [
    (path, text or "")
    for name, root in (("pageferry", pageferry), ("source-host", source_host),
                       ("dest-host", dest_host))
    for path, command in commands(root, (name,))
    for text in (command.help, command.epilog,
                 *(getattr(param, "help", "") for param in command.params))
]  # fmt: skip
SEEN_BY = {
    "paging_core/traces/lackey.py": "pageferry trace import lackey",
    "paging_core/traces/merging.py": "pageferry trace merge",
    "dest_host/limits.py": "dest-host serve",
    "wire/hosting/serve_settings.py": "dest-host serve",
    "wire/hosting/serving.py": "dest-host serve",
    "wire/hosting/settings.py": "dest-host serve",
}
"""Errors of files that no migration can end with, or that say whose an option is besides: of which
command they are."""


def test_there_are_texts_to_ask_about() -> None:
    assert len(TEXTS) > 50
    assert len(HELP) > 150
    assert any("--max-total-memory" in text for _, text in TEXTS)


def test_options_that_texts_name_exist() -> None:
    wrong = [
        f"{where}: {name} in {text!r}"
        for where, text in [*TEXTS, *HELP]
        for name in OPTION.findall(text)
        if name not in ALL
    ]
    assert wrong == []


def test_an_option_named_with_its_command_is_one_of_it() -> None:
    """``pageferry migrate --json``: the command that stands before an option has it."""
    wrong = []
    for where, text in TEXTS:
        for path, its_own in COMMANDS.items():
            for found in re.finditer(rf"\b{path}\b(?! [a-z]+ -)([^;:,()\n|&]*)", text):
                wrong += [
                    f"{where}: {name} after {path}"
                    for name in OPTION.findall(found[1])
                    if name not in its_own | EVERYWHERE
                ]
    assert wrong == []


@pytest.mark.parametrize("package", ["source_host", "dest_host", "paging_core", "wire"])
def test_what_a_migration_can_end_with_names_whose_option_it_is(package: str) -> None:
    """A host's error is printed by ``pageferry migrate``, which does not have its options."""
    wrong = []
    for where, text in TEXTS:
        its_own = COMMANDS[SEEN_BY.get(where, "pageferry migrate")] | FOREIGN | EVERYWHERE
        others = [name for name in OPTION.findall(text) if name not in its_own]
        if where.startswith(package) and others and not HOST_WORDS.search(text):
            wrong.append(f"{where}: {others} in {text!r}")
    assert wrong == []
