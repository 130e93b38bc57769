"""Every table that a command prints, in narrow terminals: each number of the wide one is there."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from pageferry.cli import output
from pageferry.cli.main import main
from pageferry.cli.reach import show_list
from pageferry.predict.prediction import Prediction
from pageferry.predict.table import table as predictions
from pageferry.sweep.directory import opened
from pageferry.sweep.model import model_digest
from pageferry.sweep.work import Task, perform
from tests.sweep.small import point

WIDTHS = (40, 60, 80, 120)
TRACE = Path(__file__).parents[2] / "examples" / "traces" / "redis.parquet"
HOSTS = [
    {
        "migration": f"{n}f0c5a3e-8f7e-4d0b-9b1a-2f5f0a1c9e37",
        "guest": "a-guest-with-a-long-name-017",
        "destination": "destination.example:50052",
        "state": "completed",
        "rounds": 12 + n,
        "wire_bytes": 123_456_789,
        "downtime_ns": 32_123_456,
        "where": "the guest is at the destination",
        "error": "",
    }
    for n in range(3)
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flow, and three results in it."""
    with_flow = point(flow=True, group_pages=16)
    with opened(tmp_path_factory.mktemp("narrow") / "s") as directory:
        flow = directory.flow_of(with_flow)
        options = replace(with_flow.options, flow=str(flow))
        directory.keep(with_flow, perform(Task(options, model_digest())))
    document = json.loads((flow / "result.json").read_text())
    for n in (1, 64, 512):
        document["config"]["group_pages"] = n
        (flow / f"{n}.json").write_text(json.dumps(document))
    return flow


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], str]:
    """What is printed in a terminal of a width."""

    def shown(width: int, what: Callable[[], object]) -> str:
        out = io.StringIO()
        console = Console(file=out, width=width, highlight=False)
        monkeypatch.setattr(output, "stdout_console", lambda: console)
        what()
        return out.getvalue()

    return shown


def command(*arguments: str) -> Callable[[], object]:
    def run() -> None:
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output

    return run


def numbers(text: str) -> list[str]:
    """Words with a digit in them; a table that goes on below names its rows again."""
    return sorted({word.strip(".,;:()") for word in text.split() if any(map(str.isdigit, word))})


def check(printed: Callable[[int, Callable[[], object]], str], what: Callable[[], object]) -> None:
    wide = printed(2000, what)
    assert wide.strip()
    for width in WIDTHS:
        narrow = printed(width, what)
        assert all(len(line) <= width for line in narrow.splitlines())
        assert set(numbers(wide)) <= set(numbers(narrow)), width
        assert "…" not in narrow


COMMANDS = {
    "costs": ("costs",),
    "workloads": ("workloads",),
    "one workload": ("workloads", "zipf"),
    "compare": ("compare", "{flow}/1.json", "{flow}/64.json", "{flow}/512.json"),
    "compare two": ("compare", "{flow}/1.json", "{flow}/64.json"),
    "analyze": ("analyze", "{flow}"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_prints_every_number_however_narrow(
    printed: Callable[[int, Callable[[], object]], str],
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.chdir(made)
    check(printed, command(*(each.format(flow=".") for each in COMMANDS[name])))


def test_a_trace_is_shown_whole(
    printed: Callable[[int, Callable[[], object]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(TRACE.parent)
    check(printed, command("trace", "show", TRACE.name))


def test_lists_of_hosts_are_shown_whole(
    printed: Callable[[int, Callable[[], object]], str],
) -> None:
    check(printed, lambda: show_list("migrations", HOSTS, {}, None))


def test_predictions_are_shown_whole(
    printed: Callable[[int, Callable[[], object]], str],
) -> None:
    said = [
        Prediction(
            model=model, rounds=12 + n, total_s=1234.567 * n, downtime_s=0.31234,
            bytes_wire=123_456_789 * n, guest_s=1.23,
        )
        for n, model in enumerate(("AVG", "HIST", "rehearsal"), 1)
    ]  # fmt: skip
    check(printed, lambda: output.stdout_console().print(predictions(said)))
