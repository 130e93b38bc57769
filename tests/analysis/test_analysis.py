"""The analysis of flows against cases worked by hand and a plain-Python reference."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pageferry.analysis.analysis import Analysis, analyze, write_tables
from pageferry.analysis.break_even import Prices, gain_ns, page_ns, written_at_break_even
from pageferry.document import Document
from pageferry.results import BadResult
from paging_core.errors import BadOption
from tests.analysis.flows import N_FRAMES, Made, a_document, edited
from tests.pageferry.hosts import pageferry


@pytest.fixture(scope="module")
def document() -> Document:
    """Of a migration whose end nobody knows, so that no flow contradicts it."""
    document = a_document()
    costs, guest = document["config"]["costs_ns"], document["guest"]
    # Two fixups of entries that were there, as the story below has them.
    fixups_ns = 2 * round(costs["exit"] + costs["fixup"] + costs["mark_dirty"])
    times = {**guest["time_ns"], "fixup": fixups_ns}
    return {**document, "outcome": "in-doubt", "guest": {**guest, "time_ns": times}}


def opened(time: int, leader: int, *gfns: int) -> list[tuple[int, str, int, int]]:
    """A fixup and its group."""
    return [(time, "fixup", leader, leader), *((time + 1, "opened", g, leader) for g in gfns)]


# Two epochs. In the first a group of four around frame 8: 9 is written, 10 and 11 are not. All
# cross in the second round; 10 is written after that and goes again; 12 is logged by hardware.
STORY = Made(
    events=[
        *opened(100, 8, 9, 10, 11),
        (150, "first_write", 9, 9),
        (160, "logged", 12, 12),
        (2500, "fixup", 10, 10),
    ],
    sends=[
        (2000, 2, 8, "data", True, 100.0),
        (2000, 2, 9, "unchanged", False, 8.0),
        (2000, 2, 10, "data", True, 100.0),
        (2000, 2, 11, "unchanged", False, 8.0),
        (2000, 2, 12, "data", True, 100.0),
        (4000, 3, 10, "data", True, 100.0),
    ],
    cleans=[1000, 3000],
)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, document: Document) -> Analysis:
    return analyze(STORY.write(tmp_path_factory.mktemp("flow") / "story", document))


def test_faults_saved_are_opened_frames_that_were_written(story: Analysis) -> None:
    saved = story["saved"]
    assert (saved["fixups"], saved["opened"], saved["saved"]) == (2, 3, 1)
    costs = story["config"]["costs_ns"]
    assert saved["saved_ns"] == costs["exit"] + costs["fixup"] + costs["mark_dirty"]
    assert saved["paid_ns"] == 3 * (costs["group_open"] + costs["mark_dirty"])


def test_false_dirties_by_class(story: Analysis) -> None:
    false = story["false_dirties"]
    assert false["total"] == 2
    assert (false["never_written"], false["never_written_bytes"]) == (1, 8.0)  # 11
    assert (false["sent_too_early"], false["sent_too_early_bytes"]) == (1, 100.0)  # 10
    assert (false["same_bytes"], false["same_bytes_bytes"]) == (1, 8.0)  # 9
    assert false["suppressed"] == 1
    assert false["never_sent"] == 0
    assert false["by_round"] == [
        {"round": 1, "fixups": 1, "opened": 3, "saved": 1, "falsely_dirty": 2, "false_bytes": 108},
        {"round": 2, "fixups": 1, "opened": 0, "saved": 0, "falsely_dirty": 0, "false_bytes": 0},
    ]
    assert false["worst_groups"] == [
        {
            "first_gfn": 8, "rounds": 1, "opened": 3, "saved": 1, "falsely_dirty": 2,
            "sent_too_early": 1, "false_bytes": 108.0,
        }
    ]  # fmt: skip
    assert [row["gfn"] for row in false["worst_frames"]] == [10, 11]


def test_every_frame_and_group_as_tables(tmp_path: Path, document: Document) -> None:
    flow = STORY.write(tmp_path / "flow", document)
    files = {file.stem: pq.read_table(file) for file in write_tables(flow, tmp_path / "t")}
    frames = {row.pop("gfn"): row for row in files["frames"].to_pylist()}
    assert sorted(frames) == [8, 9, 10, 11, 12]
    assert frames[10] == {
        "dirtied": 1, "fixups": 1, "opened": 1, "saved": 0, "falsely_dirty": 1,
        "sent_too_early": 1, "sent": 2, "unchanged": 0, "wire_bytes": 200.0,
    }  # fmt: skip
    assert frames[9]["saved"] == frames[9]["unchanged"] == 1
    assert files["groups"]["first_gfn"].to_pylist() == [8]
    assert files["rounds"].num_rows == 2


def test_neighbours_that_were_clean_and_became_dirty(story: Analysis) -> None:
    found = story["neighbours"]
    # Epoch 1: 8 at 100, 9 at 150, 12 at 160; epoch 2: 10 at 2500.
    assert found["baseline"] == 4 / (2 * N_FRAMES)
    at = {each["distance"]: each for each in found["by_distance"]}
    # Distance 1: of 8: 7 (no), 9 (yes); of 9: 8 was dirty already, 10 (no); of 12: 11, 13 (no);
    # of 10 in epoch 2: 9, 11 (no).
    assert at[1]["clean_neighbours"] == 7
    assert at[1]["in_epoch"] == 1 / 7
    assert at[1]["within_ms"]["0.1"] == 1 / 7
    # Distance 4: 8 → 12 (yes, 60 ns later), 4; 9 → 5, 13; 12 → 8 dirty already, 16; 10 → 6, 14.
    assert at[4]["in_epoch"] == 1 / 7


def test_group_sizes_count_touched_runs_and_their_unwritten_frames(story: Analysis) -> None:
    curve = {row["n"]: row for row in story["group_size"]["curve"]}
    # 12 was logged by hardware: it takes no fault, and no group opens for it.
    assert (curve[1]["faults"], curve[1]["falsely_dirty"]) == (3, 0)
    assert (curve[2]["faults"], curve[2]["falsely_dirty"]) == (2, 1)  # (8,9) | (10,.)
    assert (curve[4]["faults"], curve[4]["falsely_dirty"]) == (2, 5)
    assert curve[1024]["faults"] == 2
    assert curve[1024]["falsely_dirty"] == 2 * N_FRAMES - 4  # cut off at the end of memory
    # Of those the flow has seen written before: in epoch 2, the frames 8, 9 and 12.
    assert [curve[n]["falsely_dirty_least"] for n in (1, 2, 4, 1024)] == [0, 0, 2, 3]
    assert curve[2]["written_per_group"] == 3 / 2
    link = story["group_size"]["link_bits_per_s"]
    costs = story["config"]["costs_ns"]
    fault = costs["exit"] + costs["fixup"] + costs["mark_dirty"]
    opened = 2 * (costs["group_open"] + costs["mark_dirty"])  # one written, one in vain
    without = 2 * fault + opened + page_ns(link)
    assert curve[2]["cost_ns"]["without_suppression"] == pytest.approx(without)
    digest = costs["page_digest"] + 8 * 8 * 1e9 / link  # the sender's work, and 8 bytes
    assert curve[2]["cost_ns"]["with_suppression"] == pytest.approx(2 * fault + opened + digest)
    assert story["group_size"]["wanted"]["without_suppression"]["from"] == 1


def test_the_working_set_by_window(story: Analysis) -> None:
    windows = {row["window_ms"]: row for row in story["working_set"]}
    assert windows[0.1] == {"window_ms": 0.1, "mean": 0.4, "most": 4}  # 4 in 1 of 10 windows
    assert 1000.0 not in windows  # longer than the migration


# -- break-even ---------------------------------------------------------------------------


def test_a_group_pays_when_the_faults_outweigh_what_is_opened_in_vain() -> None:
    prices = Prices(fault_ns=1500, open_ns=10)
    assert gain_ns(4, 1, prices) == -30  # one written: three opened for nothing
    assert gain_ns(4, 4, prices) == 4500  # all written: three faults saved
    slow_link = Prices(1500, 10, page_ns(10**9))
    assert gain_ns(4, 2, slow_link) == 1500 - 2 * (10 + 32768)
    assert gain_ns(4, 4, slow_link) == 4500


@given(
    st.sampled_from([2, 8, 64, 1024]),
    st.floats(1, 1e5), st.floats(0, 1e3), st.floats(0, 1e5),
)  # fmt: skip
def test_at_break_even_nothing_is_gained(n: int, fault: float, entry: float, send: float) -> None:
    prices = Prices(fault, entry, send)
    k = written_at_break_even(n, prices)
    assert 1 <= k <= n * (1 + 1e-9)
    assert gain_ns(n, min(k, n), prices) == pytest.approx(0, abs=1e-6 * (fault + entry + send) * n)


def test_it_is_the_condition_of_the_discussion() -> None:
    n, k, prices = 16, 5.0, Prices(1500, 15, 300)
    left, right = prices.fault_ns * (1 - 1 / k), (n / k - 1) * (prices.open_ns + prices.send_ns)
    assert gain_ns(n, k, prices) == pytest.approx(k * (left - right))


def test_more_than_all_cannot_be_written() -> None:
    with pytest.raises(BadOption, match="not 5"):
        gain_ns(4, 5, Prices(1, 1))


# -- against a reference in plain Python ---------------------------------------------------


@st.composite
def made(draw: st.DrawFn) -> Made:
    """Up to three epochs of 10,000 ns in which frames are fixed up, opened, written, sent."""
    flow = Made(cleans=[10_000, 20_000])
    for epoch in range(3):
        base, dirty = epoch * 10_000, set()
        for i, leader in enumerate(draw(st.lists(st.integers(0, 15), max_size=4))):
            if leader in dirty:
                continue
            at = base + 100 * (i + 1)
            members = [g for g in range(leader & ~3, (leader & ~3) + 4) if g != leader]
            fresh = [g for g in members if g not in dirty]
            flow.events += opened(at, leader, *fresh)
            dirty |= {leader, *fresh}
            logged = draw(st.sampled_from([None, 16, 17]))
            if logged is not None:
                flow.events.append((at + 50, "logged", logged, logged))
                dirty.add(logged)
            written = draw(st.lists(st.sampled_from(fresh), unique=True)) if fresh else []
            flow.events += [(at + 2 + j, "first_write", g, g) for j, g in enumerate(written)]
        if epoch < 2:
            for gfn in sorted(dirty):
                if draw(st.integers(0, 7)) == 0:
                    continue  # a policy passed it over
                changed = draw(st.booleans())
                kind = "data" if changed else "unchanged"
                flow.sends.append((base + 15_000, epoch + 2, gfn, kind, changed, 1.0 + gfn))
    return flow


def epoch_of(flow: Made, time: int) -> int:
    return sum(clean <= time for clean in flow.cleans) + 1


def reference(flow: Made) -> dict[str, Any]:
    """The same answers, event by event."""
    written: dict[tuple[int, int], int] = {}
    groups: dict[tuple[int, int], int] = {}
    for time, kind, gfn, _ in sorted(flow.events):
        key = (epoch_of(flow, time), gfn)
        if kind == "opened":
            groups[key] = time
        elif key not in written:
            written[key] = time
    answer = {"saved": 0, "total": 0, "never_written": 0, "sent_too_early": 0, "same_bytes": 0}
    for epoch, gfn in groups:
        crossings = [s for s in flow.sends if s[2] == gfn and epoch_of(flow, s[0]) == epoch + 1]
        if (epoch, gfn) in written:
            answer["saved"] += 1
            answer["same_bytes"] += sum(not s[4] for s in crossings)
        elif epoch <= len(flow.cleans):
            answer["total"] += 1
            if not crossings:
                continue
            sent = crossings[0][0]
            later = any(g == gfn and e > epoch and t > sent for (e, g), t in written.items())
            answer["sent_too_early" if later else "never_written"] += 1
    return answer


@settings(max_examples=40)
@given(made())
def test_the_same_answers_as_the_reference(document: Document, flow: Made) -> None:
    with tempfile.TemporaryDirectory() as place:
        found = analyze(flow.write(Path(place) / "flow", document))
    expected = reference(flow)
    assert found["saved"]["saved"] == expected.pop("saved")
    assert {key: found["false_dirties"][key] for key in expected} == expected


# -- real migrations ------------------------------------------------------------------------

SMALL = ["--memory", "8MiB", "--workload", "hotcold:wss=2MiB,write_rate=2M", "--no-progress"]


@pytest.mark.parametrize(
    "tracker",
    [
        "--group-pages 16",
        "--group-pages 16 --d-bit-filter",
        "--group-pages adaptive --clean clear-log --clear-chunk 1MiB",
        "--group-pages 64 --group-trigger 2 --paging hap",
    ],
)
def test_a_real_flow_agrees_with_its_result(tmp_path: Path, tracker: str) -> None:
    flow = tmp_path / "flow"
    done = pageferry("migrate", *SMALL, *tracker.split(), "--flow", str(flow))
    assert done.returncode == 0, done.stderr
    result = json.loads((flow / "result.json").read_text())
    said = pageferry("analyze", str(flow), "--json", str(tmp_path / "analysis.json"))
    assert said.returncode == 0, said.stderr
    assert "frames were found dirty that nobody had written" in said.stdout
    analysis = json.loads((tmp_path / "analysis.json").read_text())
    assert analysis["schema"] == {"name": "pageferry.analysis", "version": 1}
    assert analysis["false_dirties"]["total"] == result["pages"]["falsely_dirty"]
    assert analysis["false_dirties"]["total"] + analysis["false_dirties"]["filtered"] > 0
    assert analysis["saved"]["fixups"] == result["faults"]["fixup"]
    by_round = {r["round"]: r["falsely_dirty"] for r in result["rounds"] if not r["stop_and_copy"]}
    for row in analysis["false_dirties"]["by_round"]:
        assert row["falsely_dirty"] == by_round[row["round"]]
    again = pageferry("analyze", str(flow), "--json", "-")
    assert json.loads(again.stdout) == analysis


def test_faults_saved_are_those_that_an_ungrouped_run_takes(tmp_path: Path) -> None:
    """Where timing hardly matters (one long round), the claim can be put to the test."""
    alike = [*SMALL, "--max-rounds", "1", "--link", "200Mbit/s"]
    fixups = {}
    for n in ("1", "8"):
        flow = tmp_path / n
        assert pageferry("migrate", *alike, "--group-pages", n, "--flow", str(flow)).returncode == 0
        saved = analyze(flow)["saved"]
        fixups[n] = saved["fixups"] + saved["saved"]
    assert fixups["8"] == pytest.approx(fixups["1"], rel=0.02)


# -- bad input ------------------------------------------------------------------------------


def refused(directory: Path, says: str) -> None:
    with pytest.raises(BadResult, match=says):
        analyze(directory)


def test_what_is_no_whole_flow_is_named(tmp_path: Path, document: Document) -> None:
    refused(tmp_path / "nowhere", "there is no directory")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no flow")
    killed = STORY.write(tmp_path / "killed", document)
    (killed / "flow.json").unlink()
    refused(killed, "incomplete: its migration was killed")
    other = STORY.write(tmp_path / "other", document)
    edited(other, schema="pageferry/flow/v9")
    refused(other, "of version 'pageferry/flow/v9'")
    broken = STORY.write(tmp_path / "broken", document)
    (broken / "sends.parquet").write_bytes((broken / "sends.parquet").read_bytes()[:100])
    refused(broken, "sends.parquet is missing or damaged")
    short = STORY.write(tmp_path / "short", document)
    for rows in ({"events": 3, "sends": 6, "moments": 4}, None, 7):
        edited(short, rows=rows)
        refused(short, "not the table that its manifest says")
    typed = STORY.write(tmp_path / "typed", document)
    table = pq.read_table(typed / "events.parquet")
    as_text = table.set_column(3, "gfn", table["gfn"].cast(pa.string()))
    pq.write_table(as_text, typed / "events.parquet")
    refused(typed, "not the table that its manifest says")
    alone = STORY.write(tmp_path / "alone", document)
    (alone / "result.json").unlink()
    refused(alone, "result.json is missing: .* --json")
    (alone / "flow.json").write_text("{")
    refused(alone, "flow.json is not JSON")


def test_the_result_of_another_migration_is_noticed(tmp_path: Path, document: Document) -> None:
    completed: Any = {**document, "outcome": "completed"}
    flow = STORY.write(tmp_path / "flow", completed)
    refused(flow, "is of another migration than the flow beside it")


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    done = pageferry("analyze", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
