"""A state that changes only along the edges that it was given."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from threading import Lock
from typing import Generic, TypeVar

from paging_core.errors import IllegalTransition

State = TypeVar("State", bound=StrEnum)

Edges = Mapping[State, frozenset[State]]
"""Where each state may lead."""


class Lifecycle(Generic[State]):
    """One thing's state. Thread-safe."""

    def __init__(self, what: str, state: State, edges: Edges[State]) -> None:
        """Start in `state`.

        Args:
            what: names the thing in errors, such as ``guest 'web'``.
            state: where it starts.
            edges: the only ways from there.
        """
        self._what = what
        self._state = state
        self._edges = edges
        self._lock = Lock()

    @property
    def state(self) -> State:
        """Where it stands now."""
        return self._state

    def to(self, state: State) -> None:
        """Go to `state`.

        Raises:
            IllegalTransition: no edge leads there from where it stands.
        """
        with self._lock:
            if state not in self._edges[self._state]:
                ways = ", ".join(sorted(self._edges[self._state])) or "nowhere"
                raise IllegalTransition(
                    f"{self._what} is {self._state} and cannot become {state}; "
                    f"from there it goes to {ways}"
                )
            self._state = state
