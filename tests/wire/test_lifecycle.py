"""States change along their edges, or not at all."""

from __future__ import annotations

from enum import StrEnum

import pytest

from paging_core.errors import IllegalTransition
from wire.hosting.lifecycle import Lifecycle


class Light(StrEnum):
    RED = "red"
    GREEN = "green"
    OFF = "off"


def light() -> Lifecycle[Light]:
    edges = {
        Light.RED: frozenset({Light.GREEN, Light.OFF}),
        Light.GREEN: frozenset({Light.RED}),
        Light.OFF: frozenset[Light](),
    }
    return Lifecycle("light 'a'", Light.RED, edges)


def test_a_lifecycle_follows_its_edges() -> None:
    life = light()
    life.to(Light.GREEN)
    life.to(Light.RED)
    assert life.state is Light.RED


def test_an_illegal_transition_says_what_is_possible_and_changes_nothing() -> None:
    life = light()
    life.to(Light.GREEN)
    with pytest.raises(IllegalTransition, match=r"light 'a' is green and cannot become off.*red"):
        life.to(Light.OFF)
    assert life.state is Light.GREEN
    life.to(Light.RED)
    life.to(Light.OFF)
    with pytest.raises(IllegalTransition, match="nowhere"):
        life.to(Light.RED)
