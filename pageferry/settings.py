"""Every setting of a migration, in the order in which documents and tables have them."""

from __future__ import annotations

from collections.abc import Mapping

from paging_core.config import GuestConfig
from paging_core.settings import Section, Setting, settings_of
from source_host.precopy.plan import Plan

_SECTIONS = list(Section)
SETTINGS: Mapping[str, Setting] = {
    one.name: one
    for one in sorted(
        (*settings_of(GuestConfig), *settings_of(Plan)),
        key=lambda one: _SECTIONS.index(one.section),
    )
}
"""All of them by name: what a guest is made of, how it is tracked, how it is moved."""
NO_AXIS = frozenset({"clock", "kind", "tracking"})
"""A sweep runs models on the virtual clock: the real one, and real guests, are about two hosts."""
AXES: Mapping[str, Setting] = {
    one.axis: one for one in SETTINGS.values() if one.is_option and one.name not in NO_AXIS
}
"""Those that a grid can vary, by the name of their axis."""


def of_section(section: Section) -> list[Setting]:
    """The options of a section, in declared order."""
    return [one for one in SETTINGS.values() if one.section is section and one.is_option]
