"""The result document: from the last status, by the schema, the same bytes each time."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pageferry import results
from pageferry.document import document_of
from pageferry.request import MigrationOptions
from pageferry.v1 import source_pb2 as pb
from paging_core.errors import PageferryError
from tests.pageferry import statuses

DOCS = Path(__file__).parents[2] / "docs" / "result-document.md"


def completed() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        results.encode(document_of(statuses.completed(), statuses.GUEST))
    )
    return document


def test_a_completed_migration_follows_the_schema() -> None:
    jsonschema.validate(completed(), results.schema())


def test_a_failed_migration_follows_the_schema_too() -> None:
    document = document_of(statuses.failed(), statuses.GUEST)
    jsonschema.validate(json.loads(results.encode(document)), results.schema())
    assert document["outcome"] == "failed"
    assert document["rounds"] == []
    assert not document["verified"]


def test_it_says_what_the_status_said() -> None:
    document = completed()
    assert document["schema"] == {"name": "pageferry.migration", "version": 1}
    assert document["outcome"] == "completed"
    assert document["verified"] is True
    assert document["memory_digest"] == "0000000000abcdef"
    assert [r["sent"] for r in document["rounds"]] == [4096, 340]
    assert document["pages"] == {
        "sent": 4436, "unique": 4096, "resent": 340, "data": 3030, "zero": 1366,
        "suppressed": 40, "skipped": 0, "falsely_dirty": 40,
    }  # fmt: skip
    assert document["bytes"] == {"raw": 4436 * 4096, "wire": 6_700_000}
    assert document["time"]["total_s"] == 0.054
    assert document["time"]["downtime_s"] == 0.00619
    assert document["guest"]["slowdown"] == 1.1185
    assert document["guest"]["time_ns"]["base"] == 1_000_000
    assert document["guest"]["time_ns"]["teardown"] == 0
    assert document["guest"]["time_ns"]["unattributed"] == 10_000
    assert document["guest"]["events"]["page_digest"] == 3070  # all that crossed but zeros
    assert document["guest"]["events_by"]["sender"] == {"page_digest": 3070}


def test_the_same_events_at_the_ends_of_their_prices() -> None:
    """The status has its events by cause; priced again by hand."""
    guest = completed()["guest"]
    low, high = guest["range"]["low"], guest["range"]["high"]
    # An access costs 0.5, 1, 2 ns; an exit 450, 840, 2000; a fixup 300, 500, 2000.
    assert low["time_ns"]["base"] == 1_000_000 - 500_000 * 0.5
    assert high["time_ns"]["base"] == 1_000_000 + 500_000
    assert low["time_ns"]["fixup"] == 75_000 - 50 * (390 + 200)
    assert high["time_ns"]["fixup"] == 75_000 + 50 * (1160 + 1500)
    for end in (low, high):
        times = end["time_ns"]
        assert times["unattributed"] == 10_000  # the same events on both sides
        assert end["slowdown"] == sum(times.values()) / times["base"]
    assert guest["slowdown"] == sum(guest["time_ns"].values()) / guest["time_ns"]["base"]


def test_without_a_twin_nothing_is_made_up() -> None:
    status = statuses.completed()
    status.cost.ClearField("untracked_ns")
    guest = document_of(status, statuses.GUEST)["guest"]
    assert guest["slowdown"] is None
    assert "unattributed" not in guest["time_ns"]
    assert guest["time_ns"]["base"] == 1_010_000
    assert guest["range"]["low"]["slowdown"] is None


def test_a_repair_is_shown_where_there_was_one() -> None:
    document = json.loads(results.encode(document_of(statuses.repaired(), statuses.GUEST)))
    jsonschema.validate(document, results.schema())
    assert document["pages"]["repaired"] == 3
    assert [stats.get("repair") for stats in document["rounds"]] == [None, None, True]
    assert "repair" not in results.encode(document_of(statuses.completed(), statuses.GUEST))


def test_density_is_a_mean_over_the_rounds_with_writes() -> None:
    """300 frames in 150 groups of 4, then 100 frames in 25: 2 and 4 of each touched group."""
    status = statuses.completed()
    status.rounds.insert(
        1, pb.RoundStats(round=2, written_frames=100, touched_groups=[25, 20, 10, 2])
    )
    document = document_of(status, statuses.GUEST)
    assert document["density"] == {"4": 3.0, "16": 4.0, "64": 8.0, "512": 43.75}
    first, _, last = document["rounds"]
    assert (first["written"], first["touched"]) == (300, {"4": 150, "16": 100, "64": 50, "512": 8})
    assert last["written"] == 0


def test_a_load_that_wrote_nothing_has_no_density() -> None:
    status = statuses.completed()
    status.rounds[0].written_frames = 0
    status.rounds[0].touched_groups[:] = [0, 0, 0, 0]
    document = document_of(status, statuses.GUEST)
    assert document["density"] is None
    jsonschema.validate(json.loads(results.encode(document)), results.schema())


def test_a_source_of_contract_1_2_says_nothing_of_density() -> None:
    status = statuses.completed()
    for stats in status.rounds:
        stats.ClearField("written_frames")
        stats.ClearField("touched_groups")
    document = document_of(status, statuses.GUEST)
    assert document["density"] is None
    assert "written" not in document["rounds"][0]
    jsonschema.validate(json.loads(results.encode(document)), results.schema())


@pytest.mark.parametrize("groups", [[1, 1, 1], [0, 1, 1, 1], [301, 1, 1, 1]])
def test_groups_that_cannot_be_are_refused(groups: list[int]) -> None:
    status = statuses.completed()
    status.rounds[0].touched_groups[:] = groups
    with pytest.raises(PageferryError, match="300 written frames"):
        document_of(status, statuses.GUEST)


def test_fixups_are_counted_once_in_the_total() -> None:
    faults = completed()["faults"]
    assert faults["fixup"] == 50
    assert faults["total"] == 10 + 45 + 20


def test_the_parts_of_the_downtime_add_up_to_it() -> None:
    time = completed()["time"]
    assert sum(time["downtime_parts_s"].values()) == pytest.approx(time["downtime_s"])


def test_defaults_are_filled_in() -> None:
    config = completed()["config"]
    assert config["clean"] == "blow"
    assert config["group_pages"] == 8
    assert config["shadow_pool_frames"] == 256 + 16
    assert config["policy"] == "xen"
    assert config["zstd_level"] is None
    assert config["suppress"] is True
    assert config["costs_ns"]["fixup"] == 500


def test_level_0_is_not_the_same_as_no_level() -> None:
    request = MigrationOptions.of(memory_bytes=1 << 24, zstd_level=0).migrate_request("g", "d")
    status = statuses.completed()
    status.request.CopyFrom(request)
    assert document_of(status, statuses.GUEST)["config"]["zstd_level"] == 0


def test_the_model_of_the_link_is_absent_on_the_real_clock() -> None:
    request = MigrationOptions.of(memory_bytes=1 << 24, clock="real").migrate_request("g", "d")
    status = statuses.completed()
    status.request.CopyFrom(request)
    config = document_of(status, statuses.GUEST)["config"]
    assert (config["clock"], config["link_bits_per_s"], config["latency_ns"]) == (
        "real", None, None,
    )  # fmt: skip


def test_no_made_up_name_and_no_address_gets_in() -> None:
    for status in (statuses.completed(), statuses.failed()):
        text = results.encode(document_of(status, statuses.GUEST))
        assert "m-made-up" not in text
        assert "4321" not in text


def test_a_trace_is_named_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    encoded = set()
    for place in ("here", "there"):
        file = tmp_path / place / "some.parquet"
        file.parent.mkdir()
        file.write_bytes(b"the same content")
        guest = replace(statuses.GUEST, workload="", trace=str(file))
        encoded.add(results.encode(document_of(statuses.completed(), guest)))
    (text,) = encoded
    trace = json.loads(text)["config"]["trace"]
    assert trace["file"] == "some.parquet"
    assert json.loads(text)["config"]["workload"] is None


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no outcome": lambda d: d.pop("outcome"),
    "an unknown outcome": lambda d: d.update(outcome="fine"),
    "verified is a word": lambda d: d.update(verified="yes"),
    "a field of its own": lambda d: d.update(duration=3),
    "another version": lambda d: d["schema"].update(version=2),
    "a negative count": lambda d: d["pages"].update(sent=-1),
    "half a page": lambda d: d["pages"].update(sent=0.5),
    "a round without its number": lambda d: d["rounds"][0].pop("round"),
    "a fault kind left out": lambda d: d["faults"].pop("fixup"),
    "a fault kind of its own": lambda d: d["faults"].update(triple=1),
    "a slowdown that is a word": lambda d: d["guest"].update(slowdown="none"),
    "a cause left out": lambda d: d["guest"]["time_ns"].pop("rebuild"),
    "memory that is no multiple of a frame": lambda d: d["config"].update(memory_bytes=1048577),
    "repaired pages that are none": lambda d: d["pages"].update(repaired=0),
    "a digest in capitals": lambda d: d.update(memory_digest="0000000000ABCDEF"),
    "a price left out": lambda d: d["config"]["costs_ns"].pop("fixup"),
    "a downtime part left out": lambda d: d["time"]["downtime_parts_s"].pop("verify"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_schema_refuses(name: str) -> None:
    document = copy.deepcopy(completed())
    BROKEN[name](document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, results.schema())


def fields(schema: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Every field that a document has, with its description."""
    found = {}
    for name, prop in schema.get("properties", {}).items():
        inner = prop["anyOf"][0] if "anyOf" in prop else prop
        found[prefix + name] = prop["description"]
        if inner.get("type") == "array":
            found.update(fields(inner["items"], f"{prefix}{name}[]."))
        elif name != "costs_ns":  # its keys are the events that `pageferry costs` lists
            found.update(fields(inner, f"{prefix}{name}."))
    return found


def test_the_documentation_explains_every_field_as_the_schema_does() -> None:
    rows = {}
    for line in DOCS.read_text().partition("\n## Fields\n")[2].splitlines():
        if line.startswith("| `"):
            cells = line.replace(r"\|", "/").split("|")
            rows[cells[1].strip(" `")] = cells[3].strip()
    explained = fields(results.schema())
    assert explained
    assert rows == {name: text.replace("|", "/") for name, text in explained.items()}
