"""Files that people give: whatever stands in them, one clear line and exit code 2, or a result.

The traces have tests of their own (tests/paging_core/test_traces_file.py), and certificates too
(tests/security).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dest_host.cli import cli as dest_host
from pageferry import in_process, results
from pageferry.cli.main import main
from pageferry.request import MigrationOptions
from paging_core import reading
from wire.hosting.command import run_command

MIB = 1 << 20
DEEP = 100_000

TEXTS = {
    "empty": b"",
    "nul": b"\0" * 64,
    "not utf-8": b'{"a": "\xff\xfe"}',
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "a mark": b"\xef\xbb\xbf{}",
    "arrays": b"[" * DEEP,
    "closed arrays": b"a = " + b"[" * DEEP + b"]" * DEEP,
    "objects": b'{"a":' * DEEP,
    "tables": b"a = {a = " * 3000,
    "dotted": b".".join([b"a"] * 3000) + b" = 1",
    "number": b"12",
    "text": b'"a"',
    "null": b"null",
    "list": b"[]",
    "nan": b'{"schema": NaN}',
    "infinity": b'{"schema": -Infinity}',
    "overflow": b'{"schema": 1e999}',
    "long number": b'{"schema": ' + b"9" * 5000 + b"}",
    "twice": b'{"schema": 1, "schema": 2}',
    "half a pair": b'{"schema": "\\ud800"}',
    "escape": b'{"schema": "\\u001b[2J"}',
    "control": b"\x1b[2J\x07 = 1",
}


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flow with its result."""
    directory = tmp_path_factory.mktemp("flow")
    options = MigrationOptions.of(
        memory_bytes=2 * MIB, workload="hotcold:wss=512KiB,write_rate=4M", group_pages=4,
        link_bits_per_s=10**9, max_rounds=2, flow=str(directory),
    )  # fmt: skip
    results.write(in_process.run(options), str(directory / "result.json"))
    return directory


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two points."""
    directory = tmp_path_factory.mktemp("sweep") / "out"
    arguments = ["--memory", "2MiB", "--workload", "idle", "--group-pages", "1,8", "--jobs", "1"]
    done = CliRunner().invoke(main, ["sweep", "--out", str(directory), *arguments])
    assert done.exit_code == 0, done.output
    return directory


def answered(*arguments: str | Path) -> str:
    """What a command says that is refused with one line, or does what it was asked; the line."""
    done = CliRunner().invoke(main, [str(one) for one in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    if done.exit_code == 0:
        return ""
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.isprintable()
    assert len(line) < 1000
    return line


def refused(*arguments: str | Path) -> str:
    """As `answered`, and refused."""
    line = answered(*arguments)
    assert line, "it was taken"
    return line


def commands_for(file: Path) -> Iterator[tuple[str | Path, ...]]:
    """Commands that read this file as a result, a grid, prices."""
    yield "compare", file
    yield "sweep", file, "--out", file.with_name("out"), "--dry-run"
    yield "costs", "--costs", file


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_a_file_that_holds_anything(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    for command in commands_for(file):
        assert "file" in refused(*command)


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_settings_of_a_host(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str],
                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    file = tmp_path / "file.toml"
    file.write_bytes(content)
    monkeypatch.setattr("sys.argv", ["dest-host", "serve", "--config", str(file), "--print-config"])
    with pytest.raises(SystemExit) as ended:
        run_command(dest_host)
    if content:  # nothing is no setting, which is fine
        assert ended.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    for place, says in (
        (pipe, "is a pipe or a device"),
        (link, "is a pipe or a device"),
        (Path("/dev/zero"), "is a pipe or a device"),
        (Path("/dev/null"), "is a pipe or a device"),
        (tmp_path, "is a directory"),
        (circle, "symbolic links"),
        (tmp_path / "missing", "No such file"),
        (Path("/proc/self/mem"), "cannot read /proc/self/mem: "),
        (tmp_path / ("n" * 300), "name too long"),
    ):
        for command in commands_for(place):
            assert says in refused(*command)


def test_a_file_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 30)
    for command in commands_for(file):
        assert "is larger than" in refused(*command)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    file = tmp_path / "file"
    file.write_text("{}")
    monkeypatch.setattr(Path, "open", denied)  # root may read anything
    with pytest.raises(Exception, match=r"cannot read .*file: Permission denied"):
        reading.read_json(file)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a document."""
    yield path
    if isinstance(value, dict | list):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(below, (*path, key))


ODD: list[Any] = [
    None, True, 0, -1, 1, 2**31, 2**63, 2**64 - 1, 0.0, -0.5, 1e-308, 1e308, "", "x", "\x1b[2J",
    "[bold]", [], {}, [[]], {"": {}}, ["x"] * 40, "\u202e", "1" * 5000,
]  # fmt: skip


def changed(document: Any, data: st.DataObject) -> Any:
    """The document with a value or two of it replaced, taken away or added."""
    copy = json.loads(json.dumps(document))
    for _ in range(data.draw(st.integers(1, 2))):
        where = data.draw(st.sampled_from(list(places(copy))))
        odd = json.loads(json.dumps(data.draw(st.sampled_from(ODD))))
        if not where:
            return odd
        holder = copy
        for key in where[:-1]:
            holder = holder[key]
        how = data.draw(st.sampled_from(["replace", "take", "add"]))
        if how == "take":
            del holder[where[-1]]
        elif how == "add" and isinstance(holder, dict):
            holder["new\x07"] = odd
        else:
            holder[where[-1]] = odd
    return copy


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_a_result_in_which_something_was_changed(
    flow: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file, good = tmp_path_factory.mktemp("bad") / "bad.json", flow / "result.json"
    file.write_text(json.dumps(changed(json.loads(good.read_text()), data)))
    answered("compare", file, good)
    answered("compare", good, file)


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_a_flow_directory_in_which_something_was_changed(
    flow: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    bad = tmp_path_factory.mktemp("bad") / "flow"
    shutil.copytree(flow, bad)
    file = bad / data.draw(st.sampled_from(sorted(one.name for one in flow.iterdir())))
    if file.suffix == ".json":
        file.write_text(json.dumps(changed(json.loads(file.read_text()), data)))
    else:
        content = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        file.write_bytes(content[: data.draw(st.sampled_from([None, len(content) // 2, 3]))])
    answered("analyze", bad)


@pytest.mark.parametrize("name", ["flow.json", "result.json", "events.parquet"])
@pytest.mark.parametrize("content", [*map(TEXTS.get, ("arrays", "not utf-8", "nan", "list")), None])
def test_a_flow_directory_with_a_file_of_another_kind(
    flow: Path, tmp_path: Path, name: str, content: bytes | None
) -> None:
    bad = tmp_path / "flow"
    shutil.copytree(flow, bad)
    (bad / name).unlink()
    if content is None:
        os.mkfifo(bad / name)
    else:
        (bad / name).write_bytes(content)
    refused("analyze", bad)
    refused("report", bad)


@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_a_sweep_directory_in_which_something_was_changed(
    swept: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    bad = tmp_path_factory.mktemp("bad") / "sweep"
    shutil.copytree(swept, bad)
    (bad / "results.parquet").unlink()
    file = data.draw(st.sampled_from([bad / "sweep.json", *sorted((bad / "points").iterdir())]))
    file.write_text(json.dumps(changed(json.loads(file.read_text()), data)))
    answered("report", bad)


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_a_sweep_directory_with_anything_in_it(swept: Path, tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "sweep"
    shutil.copytree(swept, bad)
    (bad / "results.parquet").write_bytes(content)  # made of the points: made again
    (bad / "sweep.json").write_bytes(content)
    assert "sweep" in refused("report", bad)
    shutil.copy(swept / "sweep.json", bad)
    point = next(iter((bad / "points").iterdir()))
    point.write_bytes(content)
    assert point.name in refused("report", bad)
