"""`--json [FILE]` of every command that prints a table: one document, and nothing else there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from pageferry.cli import two
from pageferry.cli.main import main
from pageferry.cli.run import Finished, Output
from pageferry.cli.two import show_both
from pageferry.document import Document
from pageferry.sweep.directory import opened
from pageferry.sweep.model import model_digest
from pageferry.sweep.work import Task, perform
from tests.journey.hosts import Pair, new_name, spec
from tests.pageferry.hosts import SMALL
from tests.sweep.small import point

TRACE = str(Path(__file__).parents[2] / "examples" / "traces" / "sqlite.parquet")
PREDICTED = ["--memory", "4MiB", "--workload", "uniform:wss=1MiB", "--link", "1Gbit/s"]
COMMANDS = {
    "pageferry.analysis": ["analyze", "{flow}"],
    "pageferry.comparison": ["compare", "{flow}/result.json", "{flow}/other.json"],
    "pageferry.costs": ["costs"],
    "pageferry.guests": ["guests", "{destination}"],
    "pageferry.measure": ["measure", "--pid", "{host}", "--tracking", "uffd-async", "--rounds",
                          "1", "--for", "200ms", "--clean-every", "50ms"],
    "pageferry.migration": ["migrate", *SMALL, "--source", "{source}", "--dest", "{destination}",
                            "--no-progress"],
    "pageferry.migrations": ["migrations", "{source}"],
    "pageferry.prediction": ["predict", *PREDICTED],
    "pageferry.record.mappings": ["record", "--list", "{process}"],
    "pageferry.trace": ["trace", "show", TRACE],
    "pageferry.workloads": ["workloads", "zipf"],
}  # fmt: skip
"""A call of every command that prints a table, by the name of its document's schema."""
DEMO = "demo"
"""Has a table too; it takes two whole migrations and has tests of its own below."""
WITHOUT = ("sweep", "report", "certs", "trace import ", "trace merge")
"""How commands begin that print no table: lines, files."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Two hosts, and a guest that went from one to the other."""
    with Pair() as made:
        name = made.source.boot(spec(new_name()))
        made.source.follow(made.source.migrate(name, made.destination.address))
        yield made


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, pair: Pair) -> dict[str, str]:
    """What the calls name."""
    traced = point(flow=True, group_pages=16)
    with opened(tmp_path_factory.mktemp("json") / "s") as directory:
        flow = directory.flow_of(traced)
        directory.keep(
            traced, perform(Task(replace(traced.options, flow=str(flow)), model_digest()))
        )
    document = json.loads((flow / "result.json").read_text())
    document["config"]["group_pages"] = 1
    (flow / "other.json").write_text(json.dumps(document))
    return {
        "flow": str(flow), "process": str(os.getpid()),
        "host": str(pair.destination.process.process.pid),
        "source": pair.source.address, "destination": pair.destination.address,
    }  # fmt: skip


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def call(name: str, places: dict[str, str]) -> list[str]:
    return [word.format(**places) for word in COMMANDS[name]]


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def with_a_table() -> dict[str, click.Command]:
    return {name: one for name, one in commands(main) if not name.startswith(WITHOUT)}


def test_every_command_is_asked() -> None:
    asked = {" ".join(words[: 2 if words[0] == "trace" else 1]) for words in COMMANDS.values()}
    assert set(with_a_table()) == asked | {DEMO}


def test_there_is_one_option_of_that_name() -> None:
    """Declared once: the same words, and what is left out means the same."""
    found = {
        name: option.to_info_dict()
        for name, command in commands(main)
        for option in command.params
        if "--json" in option.opts
    }
    assert set(found) == set(with_a_table())
    assert len({json.dumps(one, sort_keys=True, default=str) for one in found.values()}) == 1


def figures(text: str) -> list[str]:
    return [word for word in text.split() if any(map(str.isdigit, word))]


@pytest.mark.parametrize("name", COMMANDS)
def test_stdout_has_the_document_and_nothing_else(name: str, places: dict[str, str]) -> None:
    command = call(name, places)
    for how in (["--json", "-"], ["--json"]):
        done = run(*command, *how)
        assert done.exit_code == 0, done.output
        document = json.loads(done.stdout)  # refuses anything behind it
        assert document["schema"]["name"] == name
        assert document["schema"]["version"] >= 1
        assert figures(done.stderr), "the tables are there"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_has_the_document_and_stdout_the_table(
    name: str, places: dict[str, str], tmp_path: Path
) -> None:
    command, target = call(name, places), tmp_path / "document.json"
    done = run(*command, "--json", str(target))
    assert done.exit_code == 0, done.output
    assert json.loads(target.read_text())["schema"]["name"] == name
    assert figures(done.stdout)
    assert "schema" not in done.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["document.json"]
    if name.rpartition(".")[2] not in ("migration", "guests", "migrations", "mappings", "measure"):
        assert run(*command).stdout == done.stdout, "with and without a document"


@pytest.mark.parametrize("name", [*COMMANDS, DEMO])
def test_a_file_that_cannot_be_written_is_named_before_anything_is_done(
    name: str, places: dict[str, str], tmp_path: Path
) -> None:
    for target in ("/no/such/place/x.json", str(tmp_path)):
        command = ["demo"] if name == DEMO else call(name, places)
        done = run(*command, "--json", target)
        assert done.exit_code == 2
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: cannot write {target}: ")


@pytest.mark.parametrize("name", ["pageferry.guests", "pageferry.migrations"])
def test_an_action_lists_nothing(name: str, places: dict[str, str]) -> None:
    action = "pause" if name == "pageferry.guests" else "cancel"
    done = run(*call(name, places), action, "nobody", "--json")
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"drop {action}" in line


def test_an_empty_list_is_a_document_too() -> None:
    with Pair() as nobody:
        for name, address in (
            ("guests", nobody.destination.address), ("migrations", nobody.source.address),
        ):  # fmt: skip
            done = run(name, address, "--json")
            assert json.loads(done.stdout)[name] == []
            assert done.stderr == f"no {name}\n"


def test_the_demo_ends_with_both_as_one_document(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Migrations that were run before stand for those that it runs."""
    documents = iter([result(places, "other"), result(places, "result")])
    monkeypatch.setattr(two, "migrate_once", lambda *_: Finished(next(documents), 0))
    both = {"groups of 1": point().options, "groups of 16": point(group_pages=16).options}
    assert show_both(both, Output("-", quiet=True), None) == 0
    said = capsys.readouterr()
    found: dict[str, Any] = json.loads(said.out)
    assert found["schema"]["name"] == "pageferry.comparison"
    assert [one["title"] for one in found["results"]] == ["groups of 1", "groups of 16"]
    assert [one["differs_in"]["group_pages"] for one in found["results"]] == [1, 16]
    assert "tracking overhead" in said.err


def result(places: dict[str, str], name: str) -> Document:
    document: Document = json.loads((Path(places["flow"]) / f"{name}.json").read_text())
    return document
