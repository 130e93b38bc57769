"""Files that are no trace, or no longer one: a line each that says what is wrong."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from paging_core.errors import BadTrace
from paging_core.traces import lackey, reader
from paging_core.traces.opening import make_replay
from paging_core.traces.profile import profile
from paging_core.traces.reader import TraceFile
from tests.paging_core.lackey_reference import Access, import_text

KEY = b"pageferry.trace"
TEXT = "".join(Access("ILS"[i % 3], 4096 * (1 + i % 50), 4).line() for i in range(3000))


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trace of several row groups."""
    monkeypatch.setattr(lackey, "GROUP_ROWS", 100)
    monkeypatch.setattr(lackey, "MAX_WINDOW_ROWS", 60)
    out = tmp_path / "good.parquet"
    import_text(TEXT, out)
    return out


def refused(path: Path | str) -> str:
    """The line by which a file is refused, however it is used."""
    with pytest.raises(BadTrace) as caught:
        make_replay(str(path), 0)
    assert Path(path).name in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewritten(
    good: Path, change: Callable[[dict[str, Any], dict[str, list[Any]]], None], **types: pa.DataType
) -> Path:
    """A trace like the good one, its description and its columns changed."""
    table = pq.read_table(good)
    described = json.loads(pq.ParquetFile(good).metadata.metadata[KEY])
    columns = table.to_pydict()
    change(described, columns)
    described["columns_xxh3"] = {
        name: xxhash.xxh3_64_hexdigest(b"".join(_raw(name, value) for value in values))
        for name, values in columns.items()
    }
    fields = [(name, types.get(name, table.schema.field(name).type)) for name in columns]
    made = pa.table(columns, schema=pa.schema(fields, metadata={KEY: json.dumps(described)}))
    bad = good.with_name("bad.parquet")
    pq.write_table(made, bad, row_group_size=100)
    return bad


def _raw(name: str, value: int | None) -> bytes:
    size_bytes = {"accesses": 4, "write": 1}.get(name, 8)
    return (value or 0).to_bytes(size_bytes, "little", signed=True)


def test_a_trace_rewritten_alike_is_good(good: Path) -> None:
    make_replay(str(rewritten(good, lambda *_: None)), 0)


def test_a_trace_knows_its_size_and_digest(good: Path) -> None:
    trace = TraceFile(str(good))
    content = good.read_bytes()
    assert (trace.size_bytes, trace.digest) == (len(content), xxhash.xxh3_64_intdigest(content))
    assert trace.n_groups > 3
    assert trace.n_rows == pq.ParquetFile(good).metadata.num_rows


def test_a_trace_stays_the_file_that_was_opened(good: Path) -> None:
    trace = TraceFile(str(good))
    import_text("I  00009000,1\n", good)
    assert len(profile(trace).pages) == 50


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a Parquet file"),
        (b"PA", "not a Parquet file"),
        (b"I  00001000,3\n", "not a Parquet file"),
        (b"PAR1", "truncated"),
        (b"PAR1PAR1", "truncated"),
        (b"PAR1\x00\x00\x00\x00\xff\xff\xff\x7fPAR1", "damaged"),
    ],
)
def test_what_is_no_parquet_file(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "bad.parquet"
    file.write_bytes(content)
    assert says in refused(file)


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.7, 0.999])
def test_a_truncated_trace(good: Path, kept: float) -> None:
    content = good.read_bytes()
    bad = good.with_name("bad.parquet")
    bad.write_bytes(content[: int(len(content) * kept)])
    assert "truncated" in refused(bad)


def test_every_damaged_row_group_is_noticed(good: Path) -> None:
    content = good.read_bytes()
    metadata = pq.ParquetFile(good).metadata
    bad = good.with_name("bad.parquet")
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in range(metadata.num_columns):
            chunk = group.column(column)
            end = chunk.data_page_offset + chunk.total_compressed_size
            for at in range(chunk.data_page_offset, min(end, len(content)), 53):
                broken = bytearray(content)
                broken[at] ^= 0x10
                bad.write_bytes(broken)
                if _same_rows(bad, good):
                    continue  # a byte that nobody reads
                assert re.search("damaged|impossible|does not follow|end is missing", refused(bad))


def _same_rows(one: Path, other: Path) -> bool:
    try:
        return bool(pq.read_table(one).equals(pq.read_table(other)))
    except (pa.ArrowException, OSError):
        return False


def test_a_directory_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "it is a directory" in refused(tmp_path)
    assert "No such file" in refused(tmp_path / "missing.parquet")
    assert "cannot be read" in refused("/proc/self/mem")


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    """Nobody writes into this pipe: opening it would wait for ever."""
    pipe, link = tmp_path / "pipe.parquet", tmp_path / "link.parquet"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link, Path("/dev/zero")):
        assert "no regular file but a pipe or a device" in refused(path)


def test_a_parquet_file_that_is_not_a_trace(tmp_path: Path) -> None:
    file = tmp_path / "bad.parquet"
    pq.write_table(pa.table({"instruction": [1]}), file)
    assert "a Parquet file, but not a trace" in refused(file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(version=3), "of version 3, and this pageferry reads 1 and 2"),
        (lambda d: d.update(version=True), "of version True"),
        (lambda d: d.update(version="\x1b[2J" * 99), "of version \\x1b[2J\\x1b[2J"),
        (lambda d: d.pop("version"), "of version None"),
        (lambda d: d.update(version=2), "description is damaged"),  # does not say what it counts
        (lambda d: d.update(version=2, counts="sheep"), "impossible numbers"),
        (lambda d: d.pop("reads"), "description is damaged"),
        (lambda d: d.update(reads="many"), "description is damaged"),
        (lambda d: d.update(writes=True), "description is damaged"),
        (lambda d: d.update(colour="red"), "description is damaged"),
        (lambda d: d.update(writes=-1), "impossible numbers"),
        (lambda d: d.update(instructions_per_second=0), "impossible numbers"),
        (lambda d: d.update(instructions_per_second=10**13), "impossible numbers"),
        (lambda d: d.update(instructions=900), "impossible values"),
        (lambda d: d.update(instructions=10**15), "its end is missing"),
        (lambda d: d.update(instructions=2**62), "impossible numbers"),
        (lambda d: d.update(instructions=10**30), "description is damaged"),
        (lambda d: d.update(instructions=0), "has 0 instructions (lines of I) for 3,000 loads"),
        (lambda d: d.update(instructions=10), "has 10 instructions"),
        (
            lambda d: d.update(instructions=10, reads=0, writes=5, instructions_per_second=10**12),
            "takes 10 ps at 1,000,000,000,000 instructions a second",
        ),
    ],
)
def test_a_description_that_cannot_be(
    good: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    assert says in refused(rewritten(good, lambda described, _: change(described)))


def test_a_description_that_is_no_json(tmp_path: Path) -> None:
    for text in (b"{", b"[]", b"\xff", b"[" * 100_000, b"NaN", b"\0", b'{"version": 1e999}'):
        table = pa.table({"a": [1]}, schema=pa.schema([("a", pa.int64())], metadata={KEY: text}))
        pq.write_table(table, tmp_path / "bad.parquet")
        assert "description is damaged" in refused(tmp_path / "bad.parquet")


def _set(name: str, row: int, value: int | None) -> Callable[[dict[str, list[Any]]], None]:
    def change(columns: dict[str, list[Any]]) -> None:
        columns[name][row] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.pop("accesses"), "no column 'accesses' of type int32"),
        (_set("page", 150, 2**35), "row group 1 holds impossible values"),
        (_set("page", 0, -1), "row group 0 holds impossible values"),
        (_set("accesses", 5, 0), "row group 0 holds impossible values"),
        (_set("instruction", 50, 2**40), "row group 0 holds impossible values"),
        (_set("instruction", 0, -1), "row group 0 holds impossible values"),
        (_set("instruction", 130, 0), "row group 1 holds impossible values"),
        (_set("instruction", 100, 0), "row group 1 does not follow"),
        (_set("page", 7, None), "missing values"),
        (lambda c: [column.clear() for column in c.values()], "holds no accesses"),
    ],
)
def test_rows_that_cannot_be(
    good: Path, change: Callable[[dict[str, list[Any]]], None], says: str
) -> None:
    assert says in refused(rewritten(good, lambda _, columns: change(columns)))


def test_a_group_that_is_larger_than_any(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MOST_GROUP_ROWS", 99)
    assert "has 147 rows, and 1 to 99 can be" in refused(good)


def test_columns_of_the_same_name(good: Path) -> None:
    table = pq.read_table(good)
    table = table.append_column("page", table.column("page"))
    metadata = {KEY: pq.ParquetFile(good).metadata.metadata[KEY]}
    pq.write_table(table.replace_schema_metadata(metadata), good.with_name("bad.parquet"))
    assert "is damaged" in refused(good.with_name("bad.parquet"))


def test_a_column_of_another_type(good: Path) -> None:
    bad = rewritten(good, lambda *_: None, page=pa.int32())
    assert "no column 'page' of type int64" in refused(bad)


def test_another_trace_than_was_expected(good: Path) -> None:
    digest = TraceFile(str(good)).digest
    make_replay(str(good), 0, digest)
    with pytest.raises(BadTrace, match="another one than was expected"):
        make_replay(str(good), 0, digest ^ 1)


def test_the_profile_is_what_the_rows_say(good: Path) -> None:
    found = profile(TraceFile(str(good)))
    rows = list(zip(*pq.read_table(good).to_pydict().values(), strict=True))
    assert found.pages.tolist() == sorted({page for _, page, _, _ in rows})
    for i, page in enumerate(found.pages.tolist()):
        mine = [(accesses, write) for _, p, accesses, write in rows if p == page]
        assert found.accesses[i] == sum(accesses for accesses, _ in mine)
        assert found.writes[i] == sum(accesses for accesses, write in mine if write)
        assert found.born_written[i] == mine[0][1]
    assert found.written_rows == sum(write for *_, write in rows)
