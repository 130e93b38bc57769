"""`--fail-if` and `--json` of real commands, and the command that a document names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pageferry import in_process, results
from pageferry.cli.main import main
from pageferry.cli.migrate import migrate
from pageferry.command_line import command_of
from pageferry.configured import configured
from pageferry.document import Document
from pageferry.request import MigrationOptions
from paging_core.costs import CostTable
from paging_core.events import Event
from paging_core.workloads.catalog import describe_workloads
from tests.pageferry.hosts import SMALL, pageferry
from tests.sweep.small import arguments, point

ROOT = Path(__file__).parents[2]
SWEEP = ["--memory", "4MiB", "--workload", "hotcold:wss=1MiB,write_rate=1M", "--max-rounds", "3",
         "--group-pages", "1,16", "--jobs", "1", "--quiet"]  # fmt: skip


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def test_a_migration_beyond_a_limit_ends_with_three_and_one_line(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    limits = ["--fail-if", "pages.sent > 10", "--fail-if", "overhead > 1000%", "--fail-if",
              "downtime > 1ns"]  # fmt: skip
    done = pageferry("migrate", *SMALL, "--no-progress", "--json", str(target), *limits)
    assert done.returncode == 3
    assert "bytes on the wire" in done.stdout, "the tables are there all the same"
    document = results.read(target)
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"error: --fail-if 'pages.sent > 10': it is {document['pages']['sent']:,}; "
        "--fail-if 'downtime > 1ns': it is "
    )
    assert "overhead" not in line


def test_a_sweep_judges_every_point_those_before_it_too(tmp_path: Path) -> None:
    out = ["sweep", "--out", str(tmp_path / "s"), *SWEEP]
    within = run(*out, "--fail-if", "pages.sent < 1")
    assert (within.exit_code, within.stderr) == (0, "")
    grouped = run(*out, "--fail-if", "config.group_pages > 1")  # nothing is run again
    assert grouped.exit_code == 3
    (line,) = grouped.stderr.splitlines()
    assert line.startswith(
        "error: 1 of 2 points are beyond a limit, the first is pageferry migrate"
    )
    assert "--group-pages 16" in line
    assert "--fail-if 'config.group_pages > 1': it is 16" in line
    both = run(*out, "--fail-if", "pages.sent > 0")
    assert both.exit_code == 3
    assert "2 of 2 points" in both.stderr
    manifest = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert len(manifest["runs"]) == 3
    assert all(run["date"] and run["machine"] and run["pageferry"] for run in manifest["runs"])

    report = run("report", str(tmp_path / "s"))
    assert report.exit_code == 0, report.output
    page = (tmp_path / "s" / "report.html").read_text()
    for said in ("What was run", manifest["runs"][0]["date"], "Settings that all runs share",
                 "zstd_level"):  # fmt: skip
        assert said in page
    shared = page.partition("Settings that all runs share")[2]
    assert "max_rounds" in shared
    assert ">group_pages<" not in shared, "the runs differ in it"


def test_exit_codes_are_in_the_help() -> None:
    for command in ("migrate", "sweep"):
        text = run(command, "--help").stdout
        assert "3 " in text.partition("Exit code:")[2]
        assert "--fail-if" in text


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"group_pages": 16, "d_bit_filter": True, "clean": "write-protect", "policy": "qemu"},
        {"paging": "hap", "pml": True, "policy": "xen-2009", "suppress": False, "zstd_level": 0},
        {"paging": "hap", "clean": "clear-log", "clear_chunk": "1MiB", "seed": 7, "warmup": "2ms"},
        {"group_pages": "adaptive", "link": "300Mbit/s", "prefetch": False, "out_of_sync": True},
        {"workload": None, "trace": str(ROOT / "examples/traces/sqlite.parquet"),
         "memory": "32MiB"},
    ],
    ids=str,
)  # fmt: skip
def test_the_command_of_a_document_asks_for_the_same(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = point(**settings).configured
    command = command_of(config)
    monkeypatch.chdir(ROOT / "examples" / "traces")  # a trace is named without its directory
    typed = migrate.make_context("migrate", arguments(command)[1:]).params
    for name in ("json_target", "quiet", "no_progress", "fail_if"):
        typed.pop(name)
    options = MigrationOptions.typed(typed)
    again = configured(options.guest_config(), options.plan())
    assert again == config
    assert command_of(again) == command


def test_other_costs_are_named_as_a_file() -> None:
    config = point().configured
    prices = {**CostTable().prices_ns(), "fixup": 7.0}
    assert "--costs" not in command_of(config)
    assert " --costs costs.toml " in command_of({**config, "costs_ns": prices}) + " "


def document_of(*words: str) -> Any:
    done = run(*words, "--json", "-")
    assert done.exit_code == 0, done.output
    assert done.stderr, "the tables go there"
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Document]]:
    place, made = tmp_path_factory.mktemp("pair"), []
    for n in (1, 16):
        document = in_process.run(point(group_pages=n).options)
        results.write(document, str(place / f"{n}.json"))
        made.append((str(place / f"{n}.json"), document))
    return made


def test_compare_as_json_has_the_figures_of_each(pair: list[tuple[str, Document]]) -> None:
    found = document_of("compare", *(path for path, _ in pair))
    assert found["schema"] == {"name": "pageferry.comparison", "version": 1}
    assert [one["differs_in"] for one in found["results"]] == [
        {"group_pages": 1}, {"group_pages": 16}
    ]  # fmt: skip
    for one, (_, document) in zip(found["results"], pair, strict=True):
        for part in ("faults", "guest", "pages", "bytes", "time", "outcome", "verified"):
            assert one[part] == document[part]
        assert one["overhead"] == slowdown(document) - 1


def slowdown(document: Document) -> float:
    found = document["guest"]["slowdown"]
    assert found is not None
    return found


def test_compare_shows_what_tracking_costs(pair: list[tuple[str, Document]]) -> None:
    table = run("compare", *(path for path, _ in pair)).stdout
    (row,) = [line for line in table.splitlines() if "tracking overhead" in line]
    costs = [100 * (slowdown(document) - 1) for _, document in pair]
    assert f"+{costs[0]:.2f} %" in row
    assert f"+{costs[1]:.2f} %" in row
    assert f"{costs[1] / costs[0]:.2f}×" in row


def test_costs_and_workloads_as_json() -> None:
    costs = document_of("costs")["costs"]
    assert [row["event"] for row in costs] == [event.name.lower() for event in Event]
    assert all(row["ns"] >= 0 and row["source"] for row in costs)
    every = document_of("workloads")["workloads"]
    assert [one["workload"] for one in every] == [info.name for info in describe_workloads()]
    (one,) = document_of("workloads", "zipf")["workloads"]
    assert one in every


def test_a_trace_as_json() -> None:
    found = document_of("trace", "show", str(ROOT / "examples/traces/sqlite.parquet"))
    pages = found["by_page"]
    assert len(pages["page"]) == found["pages"]
    assert pages["page"] == sorted(set(pages["page"]))
    assert sum(pages["writes"]) == pytest.approx(found["writes"], rel=0.01)
    assert sum(pages["accesses"]) == pytest.approx(found["reads"] + found["writes"], rel=0.01)
    assert sum(n > 0 for n in pages["writes"]) == found["written_pages"]


def test_json_to_a_file_leaves_the_table_on_stdout(tmp_path: Path) -> None:
    done = run("costs", "--json", str(tmp_path / "costs.json"))
    assert "fixup" in done.stdout
    assert json.loads((tmp_path / "costs.json").read_text())["costs"]
