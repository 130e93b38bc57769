"""Predictions against the migrations themselves, run in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pageferry import in_process
from pageferry.predict.asking import ask
from pageferry.predict.predict import document_of, from_log, from_rehearsal, predict
from pageferry.predict.prediction import Prediction, errors
from pageferry.request import MigrationOptions
from paging_core.errors import BadOption
from tests.pageferry.hosts import pageferry

TRACES = Path(__file__).parents[2] / "examples" / "traces"
SMALL = MigrationOptions.of(
    memory_bytes=8 << 20,
    workload="hotcold:wss=4MiB,write_rate=2M",
    link_bits_per_s=500_000_000,
    warmup_ns=10**6,
)
WITHIN = {"rounds": 0, "total_s": 0.05, "downtime_s": 0.2, "bytes_wire": 0.05}
"""How far off a rehearsal of the very same guest may be, for it compresses samples only."""

TRACKED: list[dict[str, Any]] = [
    {},
    {"group_pages": 16, "clean": "write-protect", "policy": "qemu", "downtime_limit_ns": 10**7},
    {"paging": "hap", "pml": True, "policy": "xen-2009", "max_rounds": 6},
    {"paging": "hap", "clean": "clear-log", "group_pages": "adaptive", "d_bit_filter": True},
    {"workload": "churn:wss=1MiB,region=256KiB,fork_every=2000", "suppress": False},
    {"workload": None, "trace": str(TRACES / "sqlite.parquet"), "memory_bytes": 32 << 20},
]
BURSTS = {**TRACKED[-1], "max_rounds": 1}
"""sqlite writes in bursts: a percent of the first round decides which of them falls into a late one
of a few milliseconds (docs/prediction.md). So samples are held to one long round."""


@pytest.mark.parametrize("changed", [*TRACKED, {"costs_ns": "high"}], ids=str)
def test_without_compression_a_rehearsal_is_the_migration(changed: dict[str, Any]) -> None:
    options = SMALL.but(**changed, zstd_level=0)
    off = errors(from_rehearsal(options), in_process.run(options))
    assert off == dict.fromkeys(WITHIN, 0)


@pytest.mark.parametrize("changed", [*TRACKED[:-1], BURSTS], ids=str)
def test_with_compression_it_is_near(changed: dict[str, Any]) -> None:
    options = SMALL.but(**changed)
    off = errors(from_rehearsal(options), in_process.run(options))
    assert {name: abs(off[name]) <= most for name, most in WITHIN.items()} == dict.fromkeys(
        WITHIN, True
    ), off


def test_another_run_of_the_workload_says_much_the_same() -> None:
    off = errors(from_rehearsal(SMALL.but(seed=9)), in_process.run(SMALL))
    assert max(map(abs, off.values())) < 0.25, off


def test_the_published_models_know_the_first_round_and_what_is_idle() -> None:
    """A guest that writes nothing leaves only memory itself to send."""
    options = SMALL.but(workload="idle:wss=1MiB", zstd_level=0)
    measured = in_process.run(options)
    for prediction in from_log(options):
        assert abs(errors(prediction, measured)["total_s"]) < 0.05


def test_errors_are_relative_and_signed() -> None:
    document: Any = {
        "rounds": [0] * 4,
        "time": {"total_s": 2.0, "downtime_s": 0.5},
        "bytes": {"wire": 1000},
    }
    said = Prediction("m", 5, total_s=1.0, downtime_s=1.0, bytes_wire=1100, guest_s=0)
    expected = {"rounds": 0.25, "total_s": -0.5, "downtime_s": 1.0, "bytes_wire": 0.1}
    assert errors(said, document) == pytest.approx(expected)


def test_a_prediction_is_the_same_every_time() -> None:
    options = SMALL.but(group_pages=8)
    assert predict(options) == predict(options)
    shown = document_of(options, predict(options))
    assert shown["config"]["group_pages"] == 8
    assert [each["model"] for each in shown["predictions"]] == ["AVG", "HIST", "rehearsal"]


@pytest.mark.parametrize("wrong", [{"clock": "real"}, {"source": "a:1", "dest": "b:2"}], ids=str)
def test_knows_neither_hosts_nor_the_real_clock(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadOption, match="neither hosts nor the real clock"):
        predict(SMALL.but(**wrong))


ASKED = ("predict", "--memory", "4MiB", "--workload", "uniform:wss=1MiB", "--link", "1Gbit/s")


def test_the_command_shows_three_models_and_writes_a_document() -> None:
    done = pageferry(*ASKED, "--json", "-")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    options = MigrationOptions.of(memory_bytes=4 << 20, workload="uniform:wss=1MiB")
    found = ask(options)
    assert document == json.loads(json.dumps(document_of(options, predict(options), found.answer)))
    for text in ("AVG", "HIST", "rehearsal", "Yes: over 1Gbit/s this machine migrates in 6 rounds"):
        assert text in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--pml",), "--pml logs P2M writes in hardware and needs --paging hap"),
        (("--group-pages", "3"), "not a power of two"),
        (("--workload", "nonsense"), "nonsense"),
        (("--trace", "missing.parquet"), "drop one"),
        (("--flow", "out"), "No such option"),
        (("--json", "/no/such/folder/x.json"), "/no/such/folder"),
    ],
    ids=str,
)
def test_bad_input_is_named_in_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = pageferry(*ASKED, *arguments)
    assert done.returncode == 2
    complaint = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(complaint) == 1, done.stderr
    assert said in complaint[0]
    assert not done.stdout
