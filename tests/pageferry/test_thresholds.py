"""Conditions under which a command fails, on every number of a document."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pageferry.document import Document, document_of
from pageferry.thresholds import SHORT, Threshold, failed, paths
from paging_core.errors import BadOption
from tests.pageferry import statuses

DOCUMENT: Document = document_of(statuses.completed(), statuses.GUEST)


def numbers(node: Any, prefix: str = "") -> dict[str, float]:
    """Every number of a document by its path, found without any schema."""
    if isinstance(node, bool) or node is None or isinstance(node, str):
        return {}
    if isinstance(node, int | float):
        return {prefix: node}
    pairs = (
        ((f"[{i}]", one) for i, one in enumerate(node))
        if isinstance(node, list)
        else ((f".{name}", one) for name, one in node.items())
    )
    return {
        path: number
        for step, one in pairs
        for path, number in numbers(one, (prefix + step).lstrip(".")).items()
    }


def test_every_number_of_a_document_can_be_named() -> None:
    found = numbers(DOCUMENT)
    assert len(found) > 60
    for path, number in found.items():
        by_event = path.startswith(("guest.events", "guest.range.")) and "time_ns" not in path
        if (by_event and "slowdown" not in path) or path == "schema.version":
            continue  # kept by the events' names; the schema's version measures nothing
        assert Threshold.parse(f"{path} >= {number!r}").holds(DOCUMENT), path
        assert not Threshold.parse(f"{path} > {number!r}").holds(DOCUMENT), path


@pytest.mark.parametrize(
    ("text", "fails"),
    [
        ("overhead > 10%", True),  # the guest of this document takes 11.9 % longer
        ("overhead > 12%", False),
        ("overhead > 0.1", True),
        ("slowdown>=1.108", True),
        ("downtime > 6ms", True),  # 6.19 ms
        ("downtime > 6.2ms", False),
        ("downtime > 0.006", True),
        ("config.link_bits_per_s <= 1Gbit/s", True),
        ("config.link_bits_per_s > 999Mbit/s", True),
        ("config.link_bits_per_s > 1Gbit/s", False),
        ("time.downtime_s<=6190us", True),
        ("wire > 6MiB", True),  # 6.4 MiB
        ("wire > 7MB", False),
        ("rounds == 2", True),
        ("rounds[-1].stop_and_copy_ == 1", None),
        ("rounds[0].data < 2731", True),
        ("rounds[7].data < 2731", False),  # there is no eighth round
        ("fixups != 50", False),
        ("guest.time_ns.fixup > 74us", True),
        ("guest.time_ns.fixup > 75us", False),
        ("time.downtime_parts_s.last_round > 1ns", True),
        ("config.memory_bytes > 1MiB", True),
    ],
)
def test_a_condition(text: str, fails: bool | None) -> None:
    if fails is None:
        with pytest.raises(BadOption):
            Threshold.parse(text)
    else:
        assert Threshold.parse(text).holds(DOCUMENT) is fails


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no condition"),
        ("overhead", "is no condition"),
        ("overhead > ", "is no condition"),
        ("overhead => 1%", "is no condition"),
        ("overhed > 1%", "did you mean overhead"),
        ("pages.sendt > 1", "did you mean pages.sent"),
        ("overhead > much", "no number"),
        ("downtime > 1%", "only overhead is a percentage"),
        ("downtime > 3 parsecs", "duration"),
        ("pages.sent > 3MiB", "no number of what pages.sent counts"),
    ],
)
def test_what_is_none_is_refused_with_a_way_out(text: str, says: str) -> None:
    with pytest.raises(BadOption, match=says):
        Threshold.parse(text)


def test_the_complaint_says_what_was_found() -> None:
    given = [Threshold.parse(text) for text in ("overhead > 1%", "downtime > 1s", "wire > 1MB")]
    assert list(failed(given, DOCUMENT)) == [
        "--fail-if 'overhead > 1%': it is 11.85 %",
        "--fail-if 'wire > 1MB': it is 6.4 MiB",
    ]


def test_what_is_not_known_is_not_within_a_limit() -> None:
    unknown = copy.deepcopy(DOCUMENT)
    unknown["guest"]["slowdown"] = None
    given = [
        Threshold.parse(text) for text in ("overhead > 900%", "slowdown < 1", "rounds[9].dirty > 0")
    ]
    why = (
        "for the guest had no untracked twin (there is none on the real clock, nor with --no-twin)"
    )
    assert list(failed(given, unknown)) == [
        f"--fail-if 'overhead > 900%': it is not known, {why}",
        f"--fail-if 'slowdown < 1': it is not known, {why}",
    ]


def test_short_names_are_numbers_of_a_document() -> None:
    known = set(paths())
    assert {path for path in SHORT.values() if path != "guest.overhead"} <= known
