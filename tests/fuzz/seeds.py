"""Writes what fuzzing begins with: good inputs of each target, made by pageferry itself.

    python -m tests.fuzz.seeds

is to be run again where a format changes; what fuzzing once found lies beside them and stays.
"""

from __future__ import annotations

import random
import struct
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dest_host.service import SERVICE
from pageferry import results
from pageferry.document import document_of
from pageferry.v1.destination_pb2 import CommitRequest, PrepareRequest, TransferMessage
from paging_core.costs import CostTable
from paging_core.events import Event
from paging_core.model_guest import ModelGuest
from paging_core.traces.lackey import import_lackey
from paging_core.traces.written.schema import VM, Mapping, Recording
from paging_core.traces.written.writer import WrittenPagesWriter
from paging_core.workloads.catalog import describe_workloads
from tests.analysis.flows import Made, a_document
from tests.dest_host.source import Source, batch_of
from tests.fuzz.calls import GUEST
from tests.fuzz.catalog import CORPUS, TARGETS
from tests.fuzz.files import BETWEEN, FLOW
from tests.fuzz.guest import CONFIGS, base
from tests.fuzz.stream import N_FRAMES
from tests.fuzz.words import PARSERS
from tests.pageferry.statuses import completed, failed, under_way
from tests.paging_core.test_traces_importing import DAMON, VIEW
from wire.codec import encode_batch, encode_hello
from wire.convert import guest_spec
from wire.version import contract_message

LACKEY = (
    b"==9== Lackey\n==9== Command: ls -l\n"
    b"I  04001000,3\n L 1ffe000,8\n S 1ffe008,8\nI  04001003,5\n M 04a00000,4\n"
)


DEEP = b"[" * 3000
"""JSON as deep as no reader that calls itself can follow."""


def _seeds() -> Iterator[tuple[str, str, bytes]]:
    """Target, name and content."""
    for target, of in {
        "decode": _messages, "batches": _batches, "prepare": _prepared, "replies": _reports,
        "state": _states, "guest": _guests, "lackey": _texts, "trace": _traces, "flow": _flows,
        "written": _written, "pages": _lists, "bitmaps": _bitmaps, "damon": _damon,
        "drmemtrace": _views,
        "grid": _grids, "result": _results, "costs": _costs, "words": _words,
    }.items():  # fmt: skip
        for i, content in enumerate(of()):
            yield target, f"seed-{i:02}", content


def _messages() -> Iterator[bytes]:
    yield encode_hello("m-1", first_sequence=2)
    for batch in Source(n_frames=N_FRAMES).batches(frames_each=4):
        yield encode_batch(batch)
        break
    frames = Source(n_frames=N_FRAMES).frames
    frames[8:] = 0
    yield encode_batch(batch_of(frames, [1, 2, 9, 10, 40], 0, unchanged=[2], end_of_round=True))


def _batches() -> Iterator[bytes]:
    for message in list(_messages())[1:]:
        batch = TransferMessage.FromString(message).batch
        yield batch.SerializeToString(deterministic=True)
        yield b"\xff\x00next".join([batch.SerializeToString(deterministic=True)] * 2)


def _prepared() -> Iterator[bytes]:
    offer = PrepareRequest(
        version=contract_message(),
        migration_id="m-1",
        guest=guest_spec("web", GUEST),
        proof_key=bytes(range(32)),
    )
    commit = CommitRequest(guest_state=ModelGuest.boot(GUEST).state(), state_tag=bytes(16))
    first = offer.SerializeToString(deterministic=True)
    yield struct.pack("<H", len(first)) + first + commit.SerializeToString(deterministic=True)
    offer.guest.workload, offer.guest.trace = "", "redis.parquet"
    first = offer.SerializeToString(deterministic=True)
    yield struct.pack("<H", len(first)) + first


def _reports() -> Iterator[bytes]:
    for status in (completed(), failed(), under_way()):
        yield status.SerializeToString(deterministic=True)


def _states() -> Iterator[bytes]:
    for number in range(0, len(CONFIGS), 3):
        yield base(number).state
    yield DEEP


def _guests() -> Iterator[bytes]:
    for number in range(len(CONFIGS)):
        yield bytes([number])
        yield bytes([number]) + _changes(number, later=0, how_many=3)
        yield bytes([number]) + _changes(number, later=4, how_many=40)


def _changes(seed: int, *, later: int, how_many: int) -> bytes:
    """To tables above all, at arrival or later."""
    draw = random.Random(seed)  # noqa: S311
    return b"".join(
        struct.pack(
            "<BHB", later | draw.choice((0, 0, 1)), draw.randrange(1 << 16), draw.randrange(256)
        )
        for _ in range(how_many)
    )


def _texts() -> Iterator[bytes]:
    yield LACKEY
    yield LACKEY.replace(b"\n", b"\r\n")


def _traces() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "trace.parquet"
        import_lackey(BytesIO(LACKEY), out)
        yield out.read_bytes()


def _written() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "trace.parquet"
        for page_bytes in (4096, 65536):
            with WrittenPagesWriter(out) as trace:
                some = np.array([3, 4, 900], np.uint64)
                trace.window(0, 10**7, some, np.array([1, 0, -1], np.int8), some[:1])
                trace.window(3 * 10**7, 4 * 10**7, some[1:])
                trace.finish(Recording(VM, page_bytes, mappings=(Mapping(0, 1024, "RAM"),)))
            yield out.read_bytes()


def _lists() -> Iterator[bytes]:
    yield b"time_ns,page,written\n0,0x1f,w\n5000000,7,read\n70000000,7,1\n"
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "list.parquet"
        table = {"time_ns": [1, 20_000_000], "page": [7, 8], "written": [True, False]}
        pq.write_table(pa.table(table), out)
        yield out.read_bytes()


def _bitmaps() -> Iterator[bytes]:
    yield bytes([1, 0, 128, 7, 255, 0, 0, 1])


def _damon() -> Iterator[bytes]:
    yield DAMON.encode()


def _views() -> Iterator[bytes]:
    yield VIEW.encode()


def _flows() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as directory:
        document = a_document()
        document["pages"]["sent"], document["faults"]["fixup"] = 2, 1
        made = Made(
            events=[(10, "fixup", 3, 3), (10, "opened", 4, 3), (20, "first_write", 3, 3)],
            sends=[(5, 1, 3, "data", True, 4100.0), (30, 2, 3, "data", True, 4100.0)],
            cleans=[25],
        )
        path = made.write(Path(directory) / "flow", document)
        files = [(path / name).read_bytes() for name in FLOW]
        yield BETWEEN.join(files)
        yield BETWEEN.join([DEEP, *files[1:]])


def _grids() -> Iterator[bytes]:
    yield b'memory = "64MiB"\nworkload = ["hotcold", "idle"]\ngroup_pages = [1, 64, "adaptive"]\n'
    yield b'paging = "hap"\npml = [true, false]\n[[grid]]\nseed = [1, 2]\nflow = true\n'
    yield b"seed = " + DEEP


def _results() -> Iterator[bytes]:
    yield results.encode(document_of(completed(), GUEST)).encode()
    yield DEEP


def _costs() -> Iterator[bytes]:
    priced = CostTable()
    yield b"[ns]\n" + "".join(f"{e.name.lower()} = {priced.ns(e)}\n" for e in Event).encode()
    yield b"[ns]\naccess = 2\nfixup = 1e3\n"
    yield b"ns = " + DEEP


def _words() -> Iterator[bytes]:
    texts = [
        "127.0.0.1:50051", "[::1]:50052", "unix:/run/pageferry.sock", "rack1,10.0.0.7", "web-1",
        "256MiB", "1.5 Gbit/s", "300ms", "100k", "64", "adaptive", "rack1, rack2",
        "hotcold:wss=32MiB,write_rate=4M", SERVICE,
        *(info.name for info in describe_workloads()),
    ]  # fmt: skip
    for number, text in enumerate(texts):
        yield bytes([number % len(PARSERS)]) + text.encode()


def main() -> None:
    """Write them all."""
    for target, name, content in _seeds():
        assert target in TARGETS
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
