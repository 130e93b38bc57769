"""Result documents as files."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from pageferry import results
from pageferry.cli.main import main
from pageferry.document import Document, document_of
from pageferry.settings import SETTINGS
from pageferry.sweep.settings import settings_of
from paging_core.costs import SINCE_0_1
from paging_core.events import FAULTS_SINCE_0_1
from tests.pageferry import statuses


@pytest.fixture
def document() -> Document:
    return document_of(statuses.completed(), statuses.GUEST)


def test_what_is_written_can_be_read(tmp_path: Path, document: Document) -> None:
    target = tmp_path / "result.json"
    results.write(document, str(target))
    assert results.read(target) == document


def test_nothing_but_the_document_is_left_behind(tmp_path: Path, document: Document) -> None:
    results.write(document, str(tmp_path / "result.json"))
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_an_older_result_stays_whole_when_writing_fails(
    tmp_path: Path, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "result.json"
    target.write_text("older")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "chmod", full)
    with pytest.raises(results.BadResult, match="No space left on device"):
        results.write(document, str(target))
    assert target.read_text() == "older"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_file_has_the_usual_permissions(tmp_path: Path, document: Document) -> None:
    target = tmp_path / "result.json"
    previous = os.umask(0o027)
    try:
        results.write(document, str(target))
    finally:
        os.umask(previous)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path, document: Document) -> None:
    target, link = tmp_path / "result.json", tmp_path / "latest.json"
    link.symlink_to(target)
    results.write(document, str(link))
    assert link.is_symlink()
    assert results.read(target) == document


def test_a_pipe_is_written_and_never_replaced(tmp_path: Path, document: Document) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        results.write(document, str(pipe))
        assert json.loads(os.read(reader, 1 << 16)) == document
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_dash_is_stdout(document: Document, capsys: pytest.CaptureFixture[str]) -> None:
    results.write(document, "-")
    assert json.loads(capsys.readouterr().out) == document


def test_a_place_that_cannot_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(results.BadResult, match="there is no directory"):
        results.check_target(str(tmp_path / "missing" / "result.json"))
    with pytest.raises(results.BadResult, match="is a directory"):
        results.check_target(str(tmp_path))
    results.check_target(str(tmp_path / "result.json"))
    results.check_target("-")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        ("{", "is not JSON"),
        ("[1, 2]", "is not a pageferry.migration document"),
        ('{"schema": {"name": "pageferry.migration", "version": 2}}', "of version 1"),
        ('{"schema": {"name": "pageferry.migration", "version": 1}}', "is not a whole result"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "result.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(results.BadResult, match=message) as caught:
        results.read(file)
    assert "\n" not in str(caught.value)


def test_what_a_terminal_would_obey_is_escaped_and_letters_are_not(document: Document) -> None:
    """C1 controls and directions of writing pass through JSON's own rules for strings."""
    named: dict[str, object] = {**document, "command": "naïve \x9b2J \x7f \u202e \U000e0001 日本"}
    text = results.encode(named)
    assert json.loads(text) == named
    assert "naïve \\u009b2J \\u007f \\u202e \\udb40\\udc01 日本" in text


def test_a_document_from_before_a_setting_was_there_is_read(
    tmp_path: Path, document: Document
) -> None:
    """As docs/result-document.md promises: what came later is absent, and no reader minds."""
    old = dict(document["config"])
    later = [name for name, setting in SETTINGS.items() if setting.since != "0.1"]
    assert "pml_buffer_entries" in later
    for name in later:
        del old[name]
    old["costs_ns"] = dict(old["costs_ns"])
    for event in SINCE_0_1:
        del old["costs_ns"][event.name.lower()]
    faults = {k: n for k, n in document["faults"].items() if k not in FAULTS_SINCE_0_1}
    document = {**document, "faults": faults}
    target = tmp_path / "old.json"
    target.write_text(json.dumps({**document, "config": old}))
    found = results.read(target)
    assert found["config"] == old
    assert set(settings_of(old)) == set(settings_of(document["config"]))
    (tmp_path / "new.json").write_text(json.dumps(document))
    done = CliRunner().invoke(main, ["compare", str(target), str(tmp_path / "new.json")])
    assert done.exit_code == 0, done.output
    del old["policy"]
    target.write_text(json.dumps({**document, "config": old}))
    with pytest.raises(results.BadResult, match="'policy' is a required property"):
        results.read(target)
