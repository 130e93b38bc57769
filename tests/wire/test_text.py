"""A peer's text is one line that can be printed, wherever it comes in."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.v1 import common_pb2, destination_pb2
from pageferry.v1 import source_pb2 as pb
from paging_core.errors import BadOption
from wire.address import parse_address
from wire.replies import clean_reply
from wire.text import LINE_CHARS, line

HOSTILE = {
    "a title": "\x1b]0;PWNED\x07",
    "a screen that is wiped": "\x1b[2J\x1b[H",
    "one byte that begins a sequence": "\x9b31m",
    "deleted": "\x7f\b\b",
    "written over": "was refused\rwas moved  ",
    "two lines": "one\ntwo\r\nthree\x85four\u2028five\u2029six",
    "the other direction": "\u202egnp.exe\u202c \u2066x\u2069 \u200f\u061c",
    "unseen": "a\u200bb\ufeffc\u2060d\u00ade",
    "half a pair": "\ud800 \udfff",
    "tags": "\U000e0041\U000e007f",
    "private use": "\ue000\U0010fffd",
    "nothing": "\0",
}
MANY = st.text(st.characters(), max_size=3 * LINE_CHARS)
"""Surrogates too: `characters` has all of them, `text` alone does not."""
STEERING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Categories of Unicode that are no characters to look at."""


def assert_harmless(text: str, longest: int = LINE_CHARS) -> None:
    """By Unicode's own table, and not by what Python calls printable."""
    assert not {unicodedata.category(each) for each in text} & STEERING, ascii(text)
    assert len(text) <= longest


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_steers_a_terminal_is_gone(text: str) -> None:
    assert_harmless(line(f"no room {text} here"))
    assert line(f"no room {text} here").startswith("no room ")
    assert line(f"no room {text} here").endswith(" here")


@given(MANY, st.integers(1, 2 * LINE_CHARS))
def test_any_text(text: str, longest: int) -> None:
    shown = line(text, longest)
    assert_harmless(shown, longest)
    assert line(shown, longest) == shown
    if len(text) <= longest and not {unicodedata.category(each) for each in text} & STEERING:
        assert shown == " ".join(text.split())


@given(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1))
def test_text_that_people_write_stays_as_it_is(word: str) -> None:
    said = f"{word} größer 地図 ✓ {word}"
    assert line(said, len(said)) == said


def test_what_was_cut_ends_so() -> None:
    assert line("x" * 10, 10) == "x" * 10
    assert line("x" * 11, 10) == "x" * 9 + "…"
    assert line(" " * 10**6 + "x", 10) == "…"  # as much as is looked at


def statuses(text: str) -> list[pb.MigrationList | common_pb2.GuestList]:
    """Replies with that text wherever there can be one."""
    guest = common_pb2.GuestSpec(
        guest_id=text, workload=text, trace=text, cost_overrides_ns={text: 1.0}
    )
    migration = pb.MigrationStatus(
        migration_id=text, guest_id=text, destination=text, error_status=text, error=text,
        request=pb.MigrateRequest(guest_id=text, destination=text, flow_directory=text),
        guest=guest,
        cost=common_pb2.GuestCost(faults={text: 1}, events={text: 2}, tracking_ns={text: 3}),
    )  # fmt: skip
    status = common_pb2.GuestStatus(guest_id=text, message=text, accesses=7)
    return [pb.MigrationList(migrations=[migration] * 2), common_pb2.GuestList(guests=[status] * 2)]


def texts_of(message: object) -> list[str]:
    """Every text in a message, found by its printed form and not by its descriptor."""
    return [each.split(": ", 1)[1] for each in str(message).splitlines() if ': "' in each]


@pytest.mark.parametrize(
    "text", [*(v for k, v in HOSTILE.items() if "half" not in k), "x" * 100_000]
)
def test_every_text_of_a_reply_is_cleaned(text: str) -> None:
    for reply in statuses(text):
        size = len(texts_of(reply))
        clean_reply(reply)
        assert len(texts_of(reply)) == size  # none was lost
        for each in _strings(reply):
            assert_harmless(each, 4096)
        (first, second) = reply.migrations if isinstance(reply, pb.MigrationList) else reply.guests
        assert first == second


def _strings(message: object) -> list[str]:
    """Through every attribute, as users of a reply read them."""
    found: list[str] = []
    for name in getattr(type(message), "DESCRIPTOR", None).fields_by_name:  # type: ignore[union-attr]
        value = getattr(message, name)
        if isinstance(value, str):
            found.append(value)
        elif hasattr(value, "keys"):
            found.extend(value.keys())
        elif hasattr(value, "DESCRIPTOR"):
            found.extend(_strings(value))
        elif hasattr(value, "__iter__") and not isinstance(value, bytes):
            for each in value:
                if isinstance(each, str):
                    found.append(each)
                elif hasattr(each, "DESCRIPTOR"):
                    found.extend(_strings(each))
    return found


def test_a_reply_keeps_what_is_no_text() -> None:
    status = destination_pb2.IncomingStatus(
        migration_id="m-1", state=destination_pb2.INCOMING_STATE_ABORTED, next_sequence=3,
        received_frames=2**63, message="it stopped",
    )  # fmt: skip
    assert (
        clean_reply(destination_pb2.IncomingStatus.FromString(status.SerializeToString())) == status
    )


@pytest.mark.parametrize(
    "address",
    ["\x1b]0;PWNED\x07:1", "a\u202eb:1", "unix:/tmp/\x1b[2J", "a\x7f:1", "unix:" + "x" * 400,
     "x" * 400 + ":1"],
)  # fmt: skip
def test_an_address_that_cannot_be_shown_is_none(address: str) -> None:
    with pytest.raises(BadOption) as caught:
        parse_address(address)
    assert_harmless(str(caught.value), 300)
