"""What proto/README.md draws and lists is what the code does."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest

from dest_host import states as destination
from paging_core import errors
from paging_core.errors import PageferryError
from source_host import states as source
from wire.hosting.guests import states as guests
from wire.hosting.lifecycle import Edges

PAGE = (Path(__file__).parents[2] / "proto" / "README.md").read_text(encoding="utf-8")
ERROR_ROW = re.compile(r"^\| (\w+) \| ([A-Z_]+) \| .+ \|$", re.MULTILINE)
EDGE = re.compile(r"^ +(\S+) --> (\w+|\[\*\])", re.MULTILINE)
GROUPS_ONLY = {"PageferryError", "InvalidInput"}
"""Nobody raises these: they are roots of branches."""


def drawn(heading: str) -> set[tuple[str, str]]:
    """Edges of the state diagram under a heading."""
    _, _, section = PAGE.partition(f"\n## {heading}\n")
    diagram = section.partition("```mermaid\nstateDiagram-v2\n")[2].partition("```")[0]
    return set(EDGE.findall(diagram))


@pytest.mark.parametrize(
    ("heading", "edges", "born"),
    [
        ("States of a migration at the source", source.MIGRATION_EDGES, "SETUP"),
        ("States of a guest", guests.GUEST_EDGES, "PAUSED"),
        ("States of a migration at the destination", destination.INCOMING_EDGES, "PREPARED"),
    ],
)
def test_every_state_diagram_has_exactly_the_edges_of_the_code(
    heading: str, edges: Edges[StrEnum], born: str
) -> None:
    """The first state, every edge, and the end of each state that leads nowhere."""
    expected = {("[*]", born)}
    for state, following in edges.items():
        expected |= {(state.name, to.name) for to in following} or {(state.name, "[*]")}
    assert drawn(heading) == expected


def test_the_table_of_errors_names_every_leaf_with_its_status() -> None:
    """No error is missing, none is invented, and each has the status that it becomes."""
    expected = {
        name: kind.grpc_status
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, PageferryError) and name not in GROUPS_ONLY
    }
    assert dict(ERROR_ROW.findall(PAGE)) == expected
