"""A migration without gRPC gives the document that two hosts give, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pageferry import in_process, results
from pageferry.request import MigrationOptions
from paging_core.errors import BadOption, GuestOutOfMemory
from tests.pageferry.hosts import pageferry
from tests.sweep.small import CROWDED, arguments, point

TRACE = Path(__file__).parents[2] / "examples" / "traces" / "sqlite.parquet"
POINTS: list[dict[str, Any]] = [
    {},
    {"group_pages": 16, "d_bit_filter": True, "clean": "write-protect", "policy": "qemu"},
    {"paging": "hap", "pml": True, "policy": "xen-2009", "suppress": False, "zstd_level": 0},
    {"paging": "hap", "clean": "eager", "group_pages": 64, "seed": 7, "warmup": "2ms"},
    {"trace": str(TRACE), "workload": None, "memory": "32MiB"},
]


@pytest.mark.parametrize("settings", POINTS, ids=str)
def test_equals_the_one_over_grpc(settings: dict[str, Any]) -> None:
    here = point(**settings)
    done = pageferry(*arguments(here.command), "--quiet", "--json", "-")
    assert done.returncode == 0, done.stderr
    assert results.encode(in_process.run(here.options)) == done.stdout


def test_a_guest_that_crashes_gives_the_same_failure() -> None:
    here = point(**CROWDED)
    document = in_process.run(here.options)
    assert document["outcome"] == "failed"
    assert document["error"] is not None
    assert document["error"]["status"] == GuestOutOfMemory.grpc_status
    done = pageferry(*arguments(here.command), "--quiet", "--json", "-")
    assert done.returncode == 1
    assert results.encode(document) == done.stdout


@pytest.mark.parametrize("wrong", [{"clock": "real"}, {"source": "a:1", "dest": "b:2"}], ids=str)
def test_knows_neither_hosts_nor_the_real_clock(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadOption, match="neither hosts nor the real clock"):
        in_process.run(MigrationOptions.of(memory_bytes=4 << 20, workload="idle", **wrong))
